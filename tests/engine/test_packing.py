"""From pictures to a shard set that training reads: the chain, and what it says of cameras and licences."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw

from tests.engine.conftest import FRAMES, SIDE
from vfusion3d import cli
from vfusion3d.cameras import Cameras, Rig
from vfusion3d.data import ShardSet, SyntheticDataModule, batch_cameras
from vfusion3d.data.shard_writer import encode
from vfusion3d.engine import CentrePicture, FrameMasks, ImageToOrbit, Plan, ReadImage, Stage, Step, Store, pack, run
from vfusion3d.engine.packing import UNSTATED
from vfusion3d.errors import ShardError, UsageError
from vfusion3d.metrics import silhouette_coherence

RIG = Rig(3.0, 40.0, -1, FRAMES)


class Label(Stage):
    """An elevation and a quality by the item's number."""

    name, reads = "label", ("frames",)
    writes: ClassVar = {"elevation": pa.float32(), "quality": pa.float32(), "vector": pa.list_(pa.float32())}

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__(shift=shift)
        self.shift = shift

    def process(self, rows: Any) -> Any:
        numbers = [int(row["id"]) for row in rows]
        return [{"elevation": 0.1 * n + 0.1, "quality": n + self.shift, "vector": [1.0]} for n in numbers]


def table(folder, count: int) -> pa.Table:
    """Pictures of one object each, but for number 1, which is none; the first has a licence."""
    files = []
    for number in range(count):
        picture = Image.new("RGBA", (64, 48))  # transparent: no background to tell apart
        ImageDraw.Draw(picture).ellipse((22, 10, 42, 36), fill=(60 * number, 200, 90, 255))
        files.append(str(folder / f"{number}.png"))
        picture.save(files[-1])
    (folder / "1.png").write_bytes(b"no picture")
    licences = ["CC0-1.0", *[None] * (count - 1)]
    category = ["car", *["cup"] * (count - 1)]
    ids = [str(number) for number in range(count)]
    return pa.table({"id": ids, "file": files, "licence": pa.array(licences, pa.string()), "category": category})


def plan(items: pa.Table, model: Any, *more: Stage, masks: Stage | None = None, seed: int = 0) -> Plan:
    stages = [ReadImage(), CentrePicture(str(model)), ImageToOrbit(model, steps=1, seed=seed, device="cpu")]
    return Plan([Step(stage) for stage in (*stages, masks or FrameMasks(), *more)], items.column_names)


def bytes_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory, video_model):
    """A run of four pictures, and the set that was packed of it before it was labelled."""
    folder = tmp_path_factory.mktemp("made")
    items = table(folder, 4)
    store, unlabelled = Store(folder / "run", items, unit=2), plan(items, video_model)
    run(unlabelled, store, quiet=True)
    summary = pack(unlabelled, store, folder / "set", quiet=True)
    assert (summary.items, summary.added, summary.labels) == (3, 3, ["labels-items.parquet", "labels-masks.parquet"])
    return folder


def test_labels_come_later_and_touch_no_pixel(made, video_model):
    items, before = table(made, 4), bytes_of(made / "set")
    with pytest.raises(ShardError, match="has neither poses nor a column 'elevation'"):
        ShardSet(str(made / "set"))
    for shift in (0.0, 5.0):  # a label, and another version of it
        labelled, store = plan(items, video_model, Label(shift)), Store(made / "run", items, unit=2)
        run(labelled, store, quiet=True)
        assert pack(labelled, store, made / "set", quiet=True).added == 0
        after = bytes_of(made / "set")
        assert after.keys() - before.keys() == {"labels-label.parquet"}
        assert all(after[name] == content for name, content in before.items())
        rows = {row["key"]: row for row in ShardSet(str(made / "set")).attributes().to_pylist()}
        assert {key: row["quality"] for key, row in rows.items()} == {"0": shift, "2": shift + 2, "3": shift + 3}
        assert rows["0"].keys() >= {"category", "mask_coverage", "elevation"} and "vector" not in rows["0"]
    model = ["Video model orbits: CC-BY-4.0", "No released weights went into it.", "Training data: CC0-1.0"]
    assert rows["0"]["licence"].splitlines() == ["CC0-1.0", *model[:2], model[2]]
    assert rows["2"]["licence"].splitlines() == [UNSTATED, *model]
    assert rows["0"]["seed"] != rows["2"]["seed"] and rows["2"]["source"] == str(made / "2.png")


def test_a_threshold_is_a_query_of_training(made):
    data = SyntheticDataModule(str(made / "set"), "quality > 6", batch_size=1, views=FRAMES, resolution=SIDE)
    data.setup("fit")
    [items] = data.split()[0]
    assert sorted(items.keys().to_pylist()) == ["2", "3"] and items.rig == RIG
    batch = next(iter(data.train_dataloader()))
    assert batch["pixels"].shape == (1, FRAMES, SIDE, SIDE, 4)
    cameras = Cameras(batch["poses"], batch["intrinsics"])[0]
    assert min(abs(float(cameras.elevations[0]) - e) for e in (0.3, 0.4)) < 1e-4
    assert data.licences == sorted(
        ["No released weights went into it.", UNSTATED, "Training data: CC0-1.0", "Video model orbits: CC-BY-4.0"]
    )


def test_new_items_are_added_and_other_pictures_refused(made, video_model):
    items, before = table(made, 5), bytes_of(made / "set")
    store, more = Store(made / "run", items, unit=2), plan(items, video_model, Label())
    run(more, store, quiet=True)
    assert pack(more, store, made / "set", where="quality > 90", quiet=True).added == 0
    assert pack(more, store, made / "set", where="category == 'cup'", quiet=True).added == 1
    after = bytes_of(made / "set")
    assert after["shard-000000.tar"] == before["shard-000000.tar"] and "shard-000001.tar" in after
    assert len(ShardSet(str(made / "set"))) == 4
    other = plan(items, video_model, masks=FrameMasks(tolerance=0.1))
    run(other, store, quiet=True)
    with pytest.raises(UsageError, match="holds a shard set with another rig, other columns or pictures that were"):
        pack(other, store, made / "set", quiet=True)
    assert bytes_of(made / "set") == after


def test_what_it_may_be_used_for(made, capsys):
    for folder, kind in (("set", "shard set"), ("run", "run of the data engine")):
        assert cli.main(["licenses", str(made / folder), "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["kind"], answer["terms"]) == (kind, "unknown")
        found = {row["says"]: row for row in answer["findings"]}
        assert found["Video model orbits: CC-BY-4.0"]["terms"] == "attribution"
        assert found["No released weights went into it."]["terms"] == "permissive"
    assert cli.main(["licenses", str(made / "set")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{made / 'set'}, shard set: unknown (what it may be used for is not known).\n")
    assert f"unknown: {UNSTATED}\n" in said and "3 items, items.parquet, column licence" in said


def test_the_command_packs_a_run(made, video_model, tmp_path, capsys):
    stages = [
        ("ReadImage", {}),
        ("CentrePicture", {"model": str(video_model)}),
        ("ImageToOrbit", {"model": str(video_model), "steps": 1, "device": "cpu"}),
        ("FrameMasks", {}),
    ]
    steps = [{"stage": {"class_path": f"vfusion3d.engine.{name}", "init_args": args}} for name, args in stages]
    command = ["data", "pack", str(made / "run"), "--output", str(tmp_path / "set"), "--json"]
    assert cli.main(command) == 2
    assert "has no engine.yaml, so its stages are not known" in capsys.readouterr().err
    (made / "run" / "engine.yaml").write_text(json.dumps({"steps": steps}))
    assert cli.main([*command, "--where", "category == 'cup'"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["added"] == answer["items"] and answer["labels"] == ["labels-items.parquet", "labels-masks.parquet"]
    assert set(pq.read_table(tmp_path / "set" / "labels-items.parquet")["category"].to_pylist()) == {"cup"}


def test_what_cannot_be_packed(made, video_model, tmp_path):
    items = table(made, 4)
    half = Plan([Step(ReadImage())], items.column_names)
    store = Store(tmp_path / "run", items)
    with pytest.raises(UsageError, match="needs the column 'rgba_frames', but neither a stage of the plan nor the"):
        pack(half, store, tmp_path / "set", quiet=True)
    with pytest.raises(UsageError, match=r"No item of the run in .* has masked frames and a rig yet"):
        pack(plan(items, video_model), store, tmp_path / "set", quiet=True)
    assert not (tmp_path / "set").exists()


def test_an_old_version_is_refused(made, tmp_path):
    rows = pq.read_table(made / "set" / "items.parquet")
    for version in (0, None):
        old = rows.replace_schema_metadata(
            {b"vfusion3d": json.dumps({"version": version, "rig": asdict(RIG)}).encode()}
        )
        pq.write_table(old, tmp_path / "items.parquet")
        with pytest.raises(ShardError, match=rf"is of a shard set of version {version}, but this vfusion3d reads ver"):
            ShardSet(str(tmp_path))


BALLS = torch.tensor([[0.6, 0.2, 0.0, 0.25], [-0.2, 0.5, 0.4, 0.2], [0.0, -0.5, -0.3, 0.3]])  # centres and radii


def views_of_balls(cameras: Cameras, side: int) -> list[bytes]:
    """Cut-out pictures of an object without any symmetry: three balls."""
    origins, directions = cameras.rays(side, side)
    near = [torch.linalg.cross(origins - ball[:3], directions).norm(dim=-1) < ball[3] for ball in BALLS]
    alpha = torch.stack(near).any(0)
    pixels = torch.where(alpha[:, None], torch.tensor([200, 40, 40, 255]).view(1, 4, 1, 1), 0)
    return [encode(picture) for picture in pixels.to(torch.uint8).movedim(1, -1).numpy()]


def test_a_wrong_direction_or_elevation_scores_worse(tmp_path):
    """Of true orbits packed as pictures, a rig and a label: training believes these, and the pictures contradict."""
    true, elevation, side = Rig(3.07, 40.0, -1, 8), 0.35, 48
    frames = views_of_balls(true.cameras(elevation), side)

    def coherence(direction: int, labelled: float) -> float:
        rig = [asdict(replace(true, direction=direction))]
        columns = {"id": ["balls"], "rgba_frames": [frames], "rig": rig, "elevation": [labelled]}
        folder = tmp_path / f"{direction} {labelled}"
        pack(Plan([], list(columns)), Store(folder / "run", pa.table(columns)), folder / "set", quiet=True)
        data = SyntheticDataModule(str(folder / "set"), batch_size=1, views=8, resolution=side)
        data.setup("fit")
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        assert batch["images"][0, :, 3].mean() > 0.05
        return float(silhouette_coherence(batch["images"][0, :, 3], batch_cameras(batch)[0]).mean())

    assert coherence(-1, elevation) > 0.99
    assert coherence(1, elevation) < 0.5
    assert coherence(-1, 0.0) < 0.9 and coherence(-1, 0.7) < 0.97
