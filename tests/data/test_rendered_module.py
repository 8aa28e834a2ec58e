from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate

from vfusion3d.cameras import Cameras
from vfusion3d.data import RenderedDataModule, Scene
from vfusion3d.data.rendered_module import find_scenes
from vfusion3d.data.resize import area_resize
from vfusion3d.data.views_dataset import SceneItems, ViewsDataset, delivered, shift_hue
from vfusion3d.errors import SceneError, UsageError


class Items:
    """A dataset's elements as training gets them."""

    def __init__(self, root: Path, **options: Any) -> None:
        items = SceneItems.load(find_scenes(root))
        self.scenes = items.scenes
        self.dataset = ViewsDataset([items], **{"views": 4, "resolution": 24, "seed": 0, **options})
        self.cache = self.dataset.cache

    def __getitem__(self, index: tuple[int, int]) -> Any:
        loaded = self.dataset[index]
        batch = delivered(default_collate([loaded]), self.dataset.resolution)
        return {key: value[0] for key, value in batch.items()}  # type: ignore[attr-defined]


dataset = Items


def module(root: Path, **options: Any) -> RenderedDataModule:
    return RenderedDataModule(str(root), **{"batch_size": 2, "resolution": 24, "mirror": False, **options})


def frame(item: Any, view: int, scene: Scene) -> int:
    """Which of a scene's cameras a view has."""
    return int((scene.cameras.poses - item["poses"][view]).abs().flatten(1).amax(1).argmin())


def test_items_are_distinct_views_with_their_cameras(scene_root: Path) -> None:
    data = dataset(scene_root)
    inputs = set()
    for sample in range(20):
        item = data[(0, sample)]
        scene = data.scenes[sample % 5]
        frames = [frame(item, view, scene) for view in range(4)]
        assert len(set(frames)) == 4
        torch.testing.assert_close(item["images"], scene.images(frames), atol=0.5 / 255 + 1e-6, rtol=0)
        torch.testing.assert_close(item["intrinsics"], scene.cameras[frames].intrinsics)
        inputs.add(frames[0])
    assert len(inputs) >= 4


def test_p_first_raises_the_first_picture(scene_root: Path) -> None:
    data = dataset(scene_root, p_first=1.0)
    for sample in range(10):
        item = data[(0, sample)]
        frames = [frame(item, view, data.scenes[sample % 5]) for view in range(4)]
        assert frames[0] == 0 and len(set(frames)) == 4


def test_pictures_are_resized_by_area_and_the_cache_changes_nothing(scene_root: Path) -> None:
    cached, fresh = dataset(scene_root, resolution=12), dataset(scene_root, resolution=12, cache_gib=0)
    assert cached.cache is not None and fresh.cache is None
    item = cached[(0, 3)]
    assert torch.equal(item["images"], cached[(0, 3)]["images"])
    torch.testing.assert_close(item["images"], fresh[(0, 3)]["images"], atol=0.5 / 255 + 1e-6, rtol=0)
    scene = cached.scenes[3]
    expected = area_resize(scene.image(frame(item, 0, scene)), 12, 12)
    torch.testing.assert_close(item["images"][0], expected, atol=1 / 255 + 1e-6, rtol=0)  # rounded twice


def test_mirroring_flips_pictures_with_their_cameras(scene_root: Path) -> None:
    before, after = dataset(scene_root), dataset(scene_root, mirror=True)
    flipped = 0
    for sample in range(20):
        old, new = before[(0, sample)], after[(0, sample)]
        if not torch.equal(old["poses"], new["poses"]):
            flipped += 1
            assert torch.equal(new["images"], old["images"].flip(-1))
            point, mirrored = torch.tensor([[[0.3, 0.4, -0.2]], [[0.3, -0.4, -0.2]]]).unsqueeze(1).expand(2, 4, 1, 3)
            one, _ = Cameras(old["poses"], old["intrinsics"]).project(point)
            other, _ = Cameras(new["poses"], new["intrinsics"]).project(mirrored)
            torch.testing.assert_close(other, torch.stack([1 - one[..., 0], one[..., 1]], -1), atol=1e-5, rtol=0)
    assert 4 <= flipped <= 16


def test_hue_turns_colours_but_neither_alpha_nor_grey(scene_root: Path) -> None:
    old, new = dataset(scene_root)[(0, 1)]["images"], dataset(scene_root, hue=0.5)[(0, 1)]["images"]
    assert torch.equal(old[:, 3], new[:, 3]) and not torch.allclose(old, new, atol=0.02)
    assert bool((new[:, :3] <= new[:, 3:] + 1e-6).all())
    grey = torch.full((4, 2, 2), 0.3)
    torch.testing.assert_close(shift_hue(grey, torch.tensor(0.2)), grey)
    red = torch.tensor([0.6, 0.0, 0.0, 1.0])[:, None, None]
    torch.testing.assert_close(
        shift_hue(red, torch.tensor(1 / 3)).flatten(), torch.tensor([0.0, 0.6, 0.0, 1.0]), atol=1e-6, rtol=0
    )


def test_epochs_differ_and_two_workers_equal_none(
    scene_root: Path, fit: Callable[..., Any], same: Callable[..., None]
) -> None:
    options = {"mirror": True, "hue": 0.1, "samples_per_epoch": 8}
    first = fit(module(scene_root, **options), epochs=2).batches
    same(first, fit(module(scene_root, num_workers=2, **options), epochs=2).batches)
    images = torch.cat([batch["images"] for batch in first])
    assert len(torch.unique(images.flatten(1), dim=0)) == 16


def test_excluded_and_validation_scenes_are_never_trained_on(scene_root: Path, tmp_path: Path) -> None:
    names = tmp_path / "held_out.txt"
    names.write_text("object_1\nnot_rendered\n")
    for exclude in (["object_1"], str(names)):
        data = module(scene_root, exclude=exclude, val_fraction=0.3)
        train, validation = ([scene.folder for scene in items.scenes] for [items] in data.split())
        assert len(train) == len(validation) == 2
        assert {folder.name for folder in (*train, *validation)} == {f"object_{k}" for k in (0, 2, 3, 4)}
    data = module(scene_root, exclude=["object_1"], val_fraction=0.3)
    assert data.samples_per_epoch == 2
    assert len(data.val_dataloader()) == 1


def test_mistakes_are_one_sentence(scene_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="None of the 1 names in `exclude`"):
        module(scene_root, exclude=["object_l"]).split()
    with pytest.raises(UsageError, match=r"missing\.txt, cannot be read"):
        module(scene_root, exclude=str(tmp_path / "missing.txt")).split()
    with pytest.raises(SceneError, match=r"nowhere does not exist"):
        module(tmp_path / "nowhere").split()
    with pytest.raises(SceneError, match="has no scenes"):
        module(tmp_path).split()
    with pytest.raises(SceneError, match=r"No scene .* is left"):
        module(scene_root, exclude=[f"object_{k}" for k in range(5)]).split()
    with pytest.raises(SceneError, match=r"object_0 has 6 pictures, but 7 views"):
        module(scene_root, views=7).setup("fit")
    with pytest.raises(UsageError, match="`val_fraction`"):
        module(scene_root, val_fraction=1.0)


def test_a_broken_scene_is_named(scene_root: Path, tmp_path: Path) -> None:
    shutil.copytree(scene_root / "object_0", tmp_path / "broken")
    for picture in (tmp_path / "broken" / "images").iterdir():
        picture.write_bytes(b"not a picture")
    with pytest.raises(SceneError, match="broken"):
        dataset(tmp_path)[(0, 0)]
