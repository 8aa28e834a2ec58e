from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import Cameras, orbit
from vfusion3d.data import OrbitVideoDataModule, ProceduralOrbitDataModule
from vfusion3d.data.packing import procedural_rig, scene_items
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import SceneInfo, write_scene
from vfusion3d.data.shard_writer import ShardWriter
from vfusion3d.errors import SceneError, UsageError

RIG = replace(procedural_rig(4), direction=-1)


def write(folder: Path, number: int, **changes: Any) -> None:
    """A scene of four 12-pixel views on a clockwise orbit with jitter."""
    options = {"views": 4, "elevation": 0.2 * number, "radius": RIG.radius, "direction": -1, "offset_noise": 0.02}
    cameras = orbit(**{**options, **changes}, generator=torch.Generator().manual_seed(number))
    images = render(sample_objects(torch.tensor([number])), cameras.unsqueeze(0), 12, 12)[0]
    write_scene(folder, straight_pixels(images), cameras, info=SceneInfo(caption=f"object {number}"))


@pytest.fixture(scope="module")
def orbits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("orbits")
    for number in range(4):
        write(root / f"object_{number}", number)
    return root


def module(root: Path, **options: Any) -> OrbitVideoDataModule:
    return OrbitVideoDataModule(str(root), **{"views": 4, "resolution": 12, "batch_size": 2, **options})


def delivered(data: OrbitVideoDataModule, epoch: int = 0) -> list[Any]:
    """All training batches of an epoch, as a model is given them."""
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_folders_and_a_shard_set_of_them_give_the_same(orbits: Path, tmp_path: Path, fit: Callable[..., Any]) -> None:
    ShardWriter(tmp_path).write(scene_items(sorted(orbits.iterdir()), None, (), lambda *_: None))
    folders, shards = module(orbits), module(tmp_path)
    by_caption = []
    for batches in (delivered(folders), delivered(shards)):
        rows = [(batch, k) for batch in batches for k in range(2)]
        by_caption.append({batch["caption"][k]: (batch, k) for batch, k in rows})
    assert sorted(by_caption[0]) == sorted(by_caption[1]) == [f"object {k}" for k in range(4)]
    for caption, (batch, k) in by_caption[0].items():
        other, j = by_caption[1][caption]
        assert batch["frames"].shape == (2, 4, 3, 12, 12) and batch["frames"].dtype == torch.float32
        assert torch.equal(batch["frames"][k], other["frames"][j]) and torch.equal(batch["poses"][k], other["poses"][j])
        assert float(batch["frames"][k, :, :, 0, 0].min()) == 1  # on white
        azimuths = Cameras(batch["poses"][k], batch["intrinsics"][k]).azimuths
        nominal = torch.tensor([0, -math.pi / 2, math.pi, math.pi / 2])
        assert float((torch.remainder(azimuths - nominal + math.pi, 2 * math.pi) - math.pi).abs().max()) < 0.05
    assert folders.rig is not None and shards.rig == folders.rig
    assert (folders.rig.direction, folders.rig.frames) == (-1, 4) and abs(folders.rig.radius - RIG.radius) < 0.03


def test_generated_orbits_have_their_sets_rig(orbit_set: Path) -> None:
    data = module(orbit_set, views=8, val_fraction=0.3)
    batch = delivered(data)[0]
    assert data.rig == procedural_rig(8) and batch["caption"] == ["a procedural object"] * 2
    assert batch["frames"].shape == (2, 8, 3, 12, 12)  # made smaller
    assert len(data.val_dataloader().dataset) == 2


def test_a_random_start_turns_frames_and_cameras_together(orbits: Path) -> None:
    plain = {c: b["frames"][k] for b in delivered(module(orbits)) for k, c in enumerate(b["caption"])}
    starts = set()
    for epoch in range(3):
        for batch in delivered(module(orbits, random_start=True), epoch):
            for k, caption in enumerate(batch["caption"]):
                cameras = Cameras(batch["poses"][k], batch["intrinsics"][k])
                cameras.validate()
                assert abs(float(cameras.azimuths[0])) < 0.05  # the first frame is azimuth 0
                assert -1.7 < float(cameras.azimuths[1]) < -1.4  # the rig's direction stays
                [start] = [s for s in range(4) if torch.equal(plain[caption].roll(-s, 0), batch["frames"][k])]
                starts.add(start)
    assert len(starts) >= 3


def test_a_random_background_is_one_colour_in_training_alone(orbits: Path, fit: Callable[..., Any]) -> None:
    data = module(orbits, random_background=True, val_fraction=0.25, batch_size=1)
    colours: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    whole = data.on_after_batch_transfer

    def watched(batch: Any, index: int) -> Any:
        made = whole(batch, index)
        colours[data.trainer.training].append(made["frames"][:, :, :, 0, 0])  # type: ignore[union-attr]
        return {**made, "images": made["frames"], "caption": torch.zeros(1)}

    data.on_after_batch_transfer = watched  # type: ignore[method-assign]
    fit(data)
    assert len(colours[True]) == 3 and all(torch.equal(c, c[:, :1].expand_as(c)) for c in colours[True])
    assert len({tuple(c[0, 0].tolist()) for c in colours[True]}) == 3
    assert torch.equal(colours[False][0], torch.ones(1, 4, 3))


def test_what_is_no_orbit_is_one_sentence(orbits: Path, scene_root: Path, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"have 4 views .*object_0\), but 16 are asked for: set `views` to 4"):
        module(orbits, views=16).setup("fit")
    with pytest.raises(SceneError, match=r"scene .*object_\d is no orbit of 6 frames .*; leave it out with `exclude`"):
        module(scene_root, views=6).setup("fit")
    for number, changes in enumerate(
        ({"elevation": 1.0}, {"direction": 1}, {"views": 5}, {"radius": 5.0}, {"start": 1.0})
    ):
        root = tmp_path / str(number)
        for k in range(3):
            write(root / f"good_{k}", k)
        write(root / "odd", 3, **changes)
        wanted = (
            r"an elevation of 57\.\d degrees" if number == 0 else "has 5 pictures" if number == 2 else "is no orbit"
        )
        with pytest.raises(SceneError, match=rf"The scene .*/odd .*{wanted}"):
            module(root).setup("fit")
        assert len(delivered(module(root, exclude=["odd"], batch_size=1))) == 3
    with pytest.raises(UsageError, match="`resolution` must be at least 1, but got 0"):
        module(orbits, resolution=0)


def test_procedural_orbits(fit: Callable[..., Any]) -> None:
    options = {"samples_per_epoch": 4, "batch_size": 2, "views": 4, "resolution": 12}
    fresh = ProceduralOrbitDataModule(**options, val_samples=1)
    seen, validated = [], []
    for epoch in range(2):
        loader = fresh.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        seen += [fresh.on_after_batch_transfer(batch, 0) for batch in loader]
        validated += [fresh.on_after_batch_transfer(batch, 0)["frames"] for batch in fresh.val_dataloader()]
    frames = torch.cat([batch["frames"] for batch in seen])
    assert frames.shape == (8, 4, 3, 12, 12) and len(torch.unique(frames.flatten(1), dim=0)) == 8
    assert torch.equal(*validated) and not (validated[0] == frames).flatten(1).all(1).any()
    cameras = Cameras(torch.cat([b["poses"] for b in seen]), torch.cat([b["intrinsics"] for b in seen]))
    assert float(cameras.azimuths[:, 0].abs().max()) < 0.05 and fresh.rig == procedural_rig(4)
    elevations = cameras.elevations.median(1).values
    assert -0.03 < float(elevations.min()) < float(elevations.max()) - 0.2 < math.pi / 4
    assert float((cameras.centers.norm(dim=-1) - fresh.rig.radius).abs().max()) > 0.005  # the paper's offset
    fixed = ProceduralOrbitDataModule(**options, objects=2, offset_noise=0.0)
    again = torch.cat([fixed.on_after_batch_transfer(batch, 0)["frames"] for batch in fixed.train_dataloader()])
    assert len(torch.unique(again.flatten(1), dim=0)) == 2
