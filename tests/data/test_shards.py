from __future__ import annotations

import http.server
import math
import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from vfusion3d.alpha import over_white, premultiplied_pixels
from vfusion3d.cameras import Rig
from vfusion3d.data import shards
from vfusion3d.data.packing import procedural_rig
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import Scene
from vfusion3d.data.shards import ITEMS, ShardSet, metadata
from vfusion3d.errors import ShardError, UsageError, VFusion3DError
from vfusion3d.metrics.functional import psnr


def keys(opened: ShardSet) -> list[str]:
    return [opened.key(k) for k in range(len(opened))]


def label(folder: Path, name: str = "labels-a.parquet", **columns: Any) -> None:
    pq.write_table(pa.table(columns), folder / name)


def change(folder: Path, **columns: Any) -> None:
    """Replace columns of the items' table; None removes one."""
    table = pq.read_table(folder / ITEMS)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.remove_column(place)
        if values is not None:
            table = table.add_column(place, name, values)
    pq.write_table(table, folder / ITEMS)


@pytest.fixture
def copy(orbit_set: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(orbit_set, tmp_path / "set"))


@pytest.fixture
def server(orbit_set: Path) -> Iterator[str]:
    """The set over HTTP, from a server that answers ranges as web servers do."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            path = self.translate_path(self.path)
            if wanted and os.path.isfile(path):
                start, end = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
                content = Path(path).read_bytes()
                part = content[start : end + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part)
            else:
                super().do_GET()

        def log_message(self, *arguments: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(orbit_set))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


# -- reading -----------------------------------------------------------------------------------------------------
def test_renders_come_back_with_their_pictures_and_cameras(scene_root: Path, render_set: Path) -> None:
    opened = ShardSet(str(render_set))
    assert opened.rig is None and opened.size == (24, 24) and opened.counts.tolist() == [6] * 5
    for item in (3, 0):
        scene = Scene.load(scene_root / opened.key(item))
        torch.testing.assert_close(opened.cameras(item).vectors, scene.cameras.vectors)
        for view, pixels in zip((5, 1), opened.pixels(item, (5, 1)), strict=True):
            np.testing.assert_array_equal(pixels, scene.premultiplied(view))


def test_orbits_have_nominal_cameras_and_a_wrong_direction_scores_worse(orbit_set: Path, copy: Path) -> None:
    opened = ShardSet(str(orbit_set))
    rig = procedural_rig(8)
    assert opened.rig == rig and opened.size == (24, 24)
    change(copy)
    table = pq.read_table(copy / ITEMS)
    wrong = metadata(Rig(rig.radius, rig.fov, -1, 8))
    pq.write_table(table.replace_schema_metadata(wrong), copy / ITEMS)
    turned = ShardSet(str(copy))
    gaps = []
    for item in range(len(opened)):
        objects = sample_objects(torch.tensor([int(opened.key(item).split("_")[1])]))
        pictures = torch.from_numpy(np.stack(opened.pixels(item, range(8)))).permute(0, 3, 1, 2) / 255
        right, mirrored = (
            psnr(over_white(render(objects, source.cameras(item).unsqueeze(0), 24, 24)[0]), over_white(pictures))
            for source in (opened, turned)
        )
        assert float(right.min()) > 45  # the pictures' rounding
        assert float(right.mean()) > float(mirrored.mean())  # by little where an object is all but symmetric
        gaps.append(float(right.mean() - mirrored.mean()))
        torch.testing.assert_close(right[::4], mirrored[::4])  # azimuths 0 and pi are the same in both
    assert np.median(gaps) > 15


def test_elevations_are_clamped() -> None:
    rig = Rig(2.0, 40.0, frames=4)
    for label_, used in ((-0.3, 0.0), (0.4, 0.4), (1.5, math.pi / 4)):
        elevations = rig.cameras(label_).elevations
        torch.testing.assert_close(elevations, torch.full((4,), used), atol=1e-5, rtol=0)
    azimuths = Rig(2.0, 40.0, -1, 4).cameras(0.0).azimuths
    torch.testing.assert_close(azimuths[1], torch.tensor(-math.pi / 2))


@pytest.mark.parametrize("kind", ["http", "memory"])
def test_addresses_read_as_folders(kind: str, orbit_set: Path, server: str) -> None:
    if kind == "memory":
        memory = fsspec.filesystem("memory")
        for path in orbit_set.iterdir():
            memory.pipe(f"/remote_set/{path.name}", path.read_bytes())
    remote = ShardSet(server if kind == "http" else "memory://remote_set/", query="elevation > 0.1")
    local = ShardSet(str(orbit_set), query="elevation > 0.1")
    assert keys(remote) == keys(local)
    for item in range(len(local)):
        for one, other in zip(remote.pixels(item, (7, 0)), local.pixels(item, (7, 0)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_labels_of_an_address_are_found_where_folders_are_listed(copy: Path, server: str, orbit_set: Path) -> None:
    names = keys(ShardSet(str(orbit_set)))
    label(orbit_set, key=names[:2], quality=[0.2, 0.8])
    try:
        assert keys(ShardSet(server, query="quality > 0.5")) == names[1:2]
    finally:
        (orbit_set / "labels-a.parquet").unlink()


def test_a_set_survives_pickling_and_a_fork(orbit_set: Path) -> None:
    opened = ShardSet(str(orbit_set))
    before = opened.members(2, (0, 3))
    assert pickle.loads(pickle.dumps(opened)).members(2, (0, 3)) == before
    child = os.fork()
    if not child:
        os._exit(0 if opened.members(2, (0, 3)) == before else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_few_files_stay_open(orbit_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_OPEN_FILES", 1)
    opened = ShardSet(str(orbit_set))
    for item in (0, 5, 0, 3):
        assert opened.members(item, (0,))[0][8:12] == b"WEBP"
        assert len(opened._files) == 1


# -- choosing ----------------------------------------------------------------------------------------------------
def test_labels_are_joined_on_the_key(copy: Path) -> None:
    names = keys(ShardSet(str(copy)))
    label(copy, key=[names[4], "no such item", names[1]], quality=[0.9, 1.0, 0.3])
    label(copy, "labels-b.parquet", key=names, aesthetic=[1.0, 5.0, 3.0, 6.0, 2.0, 4.0], look=list("abcdef"))
    assert keys(ShardSet(str(copy), query="quality > 0.2")) == [names[1], names[4]]
    assert keys(ShardSet(str(copy), query="quality is null and look != 'c'")) == [names[0], names[3], names[5]]
    assert keys(ShardSet(str(copy), order_by="aesthetic", limit=3)) == [names[3], names[1], names[5]]
    assert keys(ShardSet(str(copy), order_by="quality", limit=2)) == [names[4], names[1]]  # nulls come last
    assert keys(ShardSet(str(copy), "aesthetic < 5", "aesthetic", 2, exclude=[names[5]])) == [names[2], names[4]]
    chosen = ShardSet(str(copy), order_by="aesthetic")
    whole = ShardSet(str(copy))
    assert chosen.members(0, (1,)) == whole.members(3, (1,))
    torch.testing.assert_close(chosen.cameras(0).poses, whole.cameras(3).poses)


def test_smaller_sets_are_part_of_larger_ones(copy: Path) -> None:
    sets = [keys(ShardSet(str(copy), limit=limit)) for limit in range(1, 7)]
    for small, large in pairwise(sets):
        assert large[: len(small)] == small
    assert sets[-1] != sorted(sets[-1])
    table = pq.read_table(copy / ITEMS)
    pq.write_table(table.take([5, 3, 0, 1, 2, 4]), copy / ITEMS)
    assert keys(ShardSet(str(copy), limit=3)) == sets[2]  # by key, not by row


def test_a_split_has_all_and_nothing_twice(orbit_set: Path) -> None:
    whole = ShardSet(str(orbit_set))
    train, held = whole.split(0.3, seed=0)
    assert (len(train), len(held)) == (4, 2) and {*keys(train), *keys(held)} == {*keys(whole)}
    assert keys(whole.split(0.3, seed=0)[1]) == keys(held)
    for part in (train, held):
        for item in range(len(part)):
            other = keys(whole).index(part.key(item))
            assert part.members(item, (2,)) == whole.members(other, (2,))
            torch.testing.assert_close(part.cameras(item).poses, whole.cameras(other).poses)


# -- mistakes ----------------------------------------------------------------------------------------------------
def refused(error: type[VFusion3DError], words: str, location: Any, **options: Any) -> None:
    with pytest.raises(error) as caught:
        ShardSet(str(location), **options)
    assert words in str(caught.value) and str(caught.value).endswith("."), caught.value


def test_bad_choices_are_one_sentence(copy: Path) -> None:
    refused(UsageError, "chooses none of the 6 rows", copy, query="elevation > 3")
    refused(UsageError, "there is no column 'quality'", copy, query="quality > 0")
    refused(UsageError, "does not fit the columns", copy, query="prompt > 3")
    refused(UsageError, "names the column 'aesthetic'", copy, order_by="aesthetic", limit=1)
    refused(UsageError, "asks for 7 items, but", copy, limit=7)
    refused(UsageError, "at least 1, but got 0", copy, limit=0)
    refused(UsageError, "None of the 1 names in `exclude`", copy, exclude=["x"])
    refused(ShardError, "No item of", copy, exclude=[f"procedural_{k:08d}" for k in range(6)])


def test_broken_sets_are_one_sentence(copy: Path, render_set: Path, tmp_path: Path) -> None:
    refused(ShardError, "does not exist", tmp_path / "nowhere")
    refused(ShardError, f"it has no {ITEMS}", tmp_path)
    names = keys(ShardSet(str(copy)))
    label(copy, key=[names[0], names[0]], quality=[0.1, 0.2])
    refused(ShardError, "has a key twice", copy, query="quality > 0")
    label(copy, key=names, elevation=[0.1] * 6)
    refused(ShardError, "The column 'elevation' is in items.parquet and in labels-a.parquet", copy)
    label(copy, quality=[0.1])
    refused(ShardError, "has no column 'key'", copy)
    (copy / "labels-a.parquet").unlink()
    change(copy, elevation=pa.array([0.1, None, 0.2, 0.3, None, 0.4], pa.float32()))
    refused(ShardError, "2 of the 6 chosen items of", copy)
    assert len(ShardSet(str(copy), query="elevation is not null")) == 4
    change(copy, elevation=None)
    refused(ShardError, "nor a column 'elevation'", copy)
    label(copy, key=names[::-1], elevation=[0.6, 0.5, 0.4, 0.3, 0.2, 0.1])  # labelled later, in any order
    labelled = ShardSet(str(copy), query="elevation > 0.15")
    assert sorted(round(float(labelled.cameras(k).elevations[0]), 4) for k in range(5)) == [0.2, 0.3, 0.4, 0.5, 0.6]
    (copy / "labels-a.parquet").unlink()
    change(copy, offsets=None)
    refused(ShardError, "has no column 'offsets'", copy)
    (copy / ITEMS).write_bytes(b"PAR1 and then nothing")
    refused(ShardError, "is no complete Parquet file", copy)

    renders = Path(shutil.copytree(render_set, tmp_path / "renders"))
    poses = pq.read_table(renders / ITEMS)["poses"].to_pylist()
    poses[2][5] = math.nan
    change(renders, poses=pa.array(poses, pa.list_(pa.float32())))
    refused(ShardError, "The poses of item 'object_2'", renders)
    assert len(ShardSet(str(renders), exclude=["object_2"])) == 4
    poses[2].pop()
    change(renders, poses=pa.array(poses, pa.list_(pa.float32())))
    refused(ShardError, "must hold 12 numbers per frame", renders)


def test_truncated_and_spoilt_shards_are_named(copy: Path, tmp_path: Path) -> None:
    opened = ShardSet(str(copy))
    shard = copy / opened.places.shards[0]
    content = shard.read_bytes()
    start, size = (int(numbers[3]) for numbers in opened.places[0])
    shard.write_bytes(content[:start] + b"RIFF spoilt" + content[start + 11 :])
    with pytest.raises(ShardError, match=r"Frame 3 of item 'procedural_00000000' in .*000000\.tar cannot be decoded"):
        ShardSet(str(copy)).pixels(0, (3,))
    shard.write_bytes(content[: start + size - 1])
    refused(ShardError, "is truncated: it has", copy)
    memory = fsspec.filesystem("memory")
    for path in copy.iterdir():
        memory.pipe(f"/truncated_set/{path.name}", path.read_bytes())
    with pytest.raises(ShardError, match=r"ends before frame 3 of item 'procedural_00000000'"):
        ShardSet("memory://truncated_set").members(0, (2, 3))
    shard.unlink()
    refused(ShardError, "000000.tar does not exist", copy)


def test_unreachable_addresses_are_one_sentence(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setattr(shards.time, "sleep", lambda seconds: None)
    refused(ShardError, "http://127.0.0.1:9/items.parquet cannot be read", "http://127.0.0.1:9")
    refused(ShardError, "/nowhere/items.parquet does not exist", f"{server}/nowhere")
    refused(UsageError, "nonsense", "nonsense://bucket/set")


def test_a_broken_connection_is_tried_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(shards.time, "sleep", waits.append)
    opened = ShardSet(server)
    reading, failures = opened.fs.cat_ranges, [ConnectionResetError("reset"), TimeoutError()]

    def fragile(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return reading(*arguments, **options)

    monkeypatch.setattr(opened.fs, "cat_ranges", fragile)
    assert opened.members(1, (0,))[0][8:12] == b"WEBP" and waits == [0.5, 1.0]


# -- other readers -----------------------------------------------------------------------------------------------
def test_webdataset_reads_shards(orbit_set: Path) -> None:
    wds = pytest.importorskip("webdataset")
    opened = ShardSet(str(orbit_set))
    samples = list(wds.WebDataset([str(orbit_set / name) for name in opened.places.shards], shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == keys(opened)
    for item, sample in enumerate(samples):
        frames = sorted(name for name in sample if name.endswith(".webp"))
        assert [sample[name] for name in frames] == opened.members(item, range(8))


def test_s3_locations(orbit_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    try:
        host, port = running.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket="sets")
        for path in orbit_set.iterdir():
            client.upload_file(str(path), "sets", f"orbits/{path.name}")
        remote, local = ShardSet("s3://sets/orbits"), ShardSet(str(orbit_set))
        assert keys(remote) == keys(local) and remote.members(4, (6, 1)) == local.members(4, (6, 1))
    finally:
        running.stop()


def test_opaque_and_grey_pictures_are_decoded_too() -> None:
    from PIL import Image

    grey = premultiplied_pixels(Image.new("L", (2, 2), 7))
    assert grey.tolist() == [[[7, 7, 7, 255]] * 2] * 2
    half = premultiplied_pixels(Image.new("RGBA", (1, 1), (255, 100, 0, 128)))
    assert half.tolist() == [[[128, 50, 0, 128]]]
