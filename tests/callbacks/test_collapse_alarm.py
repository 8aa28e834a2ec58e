"""Each alarm is raised by a field that really is so, and none by true objects."""

from __future__ import annotations

import warnings

import pytest
import torch
from lightning.pytorch import Trainer

from vfusion3d.callbacks import CollapseAlarm
from vfusion3d.callbacks.collapse_alarm import KINDS, collapse_measures, failures, inspection_cameras
from vfusion3d.cameras import random_sphere
from vfusion3d.data import ProceduralDataModule
from vfusion3d.data.batches import batch_cameras
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.errors import TrainingError
from vfusion3d.models import ReconstructorConfig, Triplanes
from vfusion3d.models.field import TriplaneField
from vfusion3d.training import LossWeights, PatchSettings, ReconstructorTraining

SIDE = 64  # texels


class Fixed(ReconstructorTraining):
    """Makes the same object of every picture, turned so that its +X faces the input camera.

    A box of planes: density where all three masks (channel 0) are set, colours of one plane (channels 1 to 3).

    Args:
        half: Half its extent along x, y, z.
        painted: Plane the colours come from: 0 is (x, y), 2 is (z, y), the same in front and behind.
    """

    def __init__(self, half, painted=0):
        super().__init__("tiny", losses=LossWeights(perceptual=0.0, l2=1.0), patches=PatchSettings(size=8))
        changes = {"pixel_aligned_channels": 0, "depth_frequencies": 0, "density_sphere_slope": 0.0, "field_layers": 2}
        self.made = TriplaneField(ReconstructorConfig.preset("tiny", image_alpha=False, **changes))
        with torch.no_grad():
            for parameter in self.made.parameters():
                parameter.zero_()
            first, last = self.made.first, self.made.last
            first.weight[0, ::8], first.bias[0] = 1.0, -2.0  # 1 where all three masks are 1
            last.weight[0, 0], last.bias[0] = 200.0, -100.0
            for k in (1, 2, 3):
                first.weight[k, 8 * painted + k] = 1.0
                last.weight[k, k], last.bias[k] = 6.0, -3.0
        within = [((torch.arange(SIDE) + 0.5) / SIDE * 2 - 1).abs() < h for h in half]
        planes = torch.zeros(3, 8, SIDE, SIDE)
        for k, (u, v) in enumerate([(0, 1), (0, 2), (2, 1)]):
            planes[k, 0] = (within[v][:, None] & within[u]).float()
        generator = torch.Generator().manual_seed(1)
        spots = (torch.rand(3, SIDE // 4, SIDE // 4, generator=generator) < 0.5).float()
        planes[painted, 1:4] = spots.repeat_interleave(4, 1).repeat_interleave(4, 2)
        self.register_buffer("planes", planes[None], persistent=False)

    def reconstruct(self, batch, noise=False):
        azimuth = batch_cameras(batch)[:, 0].azimuths
        to_model = torch.eye(4).repeat(len(azimuth), 1, 1)
        to_model[:, 0, 0], to_model[:, 0, 1] = azimuth.cos(), azimuth.sin()
        to_model[:, 1, 0], to_model[:, 1, 1] = -azimuth.sin(), azimuth.cos()
        planes = self.planes.expand(len(azimuth), -1, -1, -1, -1)
        return Triplanes(self.made, planes, to_model, coarse_samples=48, fine_samples=24)


COLLAPSED = {
    "empty": ((0.0, 0.0, 0.0), 0),
    "full": ((2.0, 2.0, 2.0), 0),
    "billboard": ((0.05, 0.5, 0.5), 0),
    "mirrored": ((0.5, 0.5, 0.5), 2),
}


def validate(tmp_path, model, alarm, times=2):
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    data = ProceduralDataModule(val_samples=2, batch_size=2, resolution=24, views=1, elevation=(0.0, 0.6))
    for _ in range(times):
        trainer = Trainer(accelerator="cpu", devices=1, default_root_dir=tmp_path, callbacks=[alarm], **options)
        trainer.validate(model, data, verbose=False)
    return trainer


@pytest.mark.parametrize("kind", COLLAPSED)
def test_each_failure_is_told_once(tmp_path, kind):
    alarm = CollapseAlarm(objects=2, size=24)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        validate(tmp_path, Fixed(*COLLAPSED[kind]), alarm, times=1)
        assert not any("After step" in str(w.message) for w in told) and alarm.seen[kind] == 1
        trainer = validate(tmp_path, Fixed(*COLLAPSED[kind]), alarm)
    [sentence] = [str(w.message) for w in told if "After step" in str(w.message)]
    assert KINDS[kind] in sentence and alarm.raised == [kind] and alarm.seen[kind] == 3
    assert set(trainer.callback_metrics) >= {f"collapse/{name}" for name in ("coverage", "background", "side")}


def test_a_healthy_field_raises_none(tmp_path):
    alarm = CollapseAlarm(objects=2, size=24)
    validate(tmp_path, Fixed((0.5, 0.5, 0.5)), alarm)
    assert alarm.raised == [] and not any(alarm.seen.values())


def test_true_objects_raise_none():
    """And are far from each threshold."""
    found = []
    for seed in range(4):
        cameras = random_sphere(4, (-0.2, 1.0), (30.0, 60.0), (1.0, 1.15), torch.Generator().manual_seed(seed))
        views = render(sample_objects(torch.arange(4) + 4 * seed), inspection_cameras(cameras), 32, 32)
        found.append(collapse_measures(views, views[:, 0, 3], cameras))
        assert failures(found[-1]) == []
    coverage, background, side, mirror = torch.tensor(found).T
    assert coverage.min() > 0.85 and background.max() < 0.01 and side.min() > 0.6 and mirror.max() < 0.4


def test_a_plain_back_is_no_mirror_image():
    """A front of one colour looks like its back: that tells nothing."""
    cameras = random_sphere(1)
    views = torch.full((1, 4, 4, 8, 8), 0.5)
    views[:, :, 3] = 1.0
    measures = collapse_measures(views, torch.ones(1, 8, 8), cameras)
    assert measures.mirror.isnan() and measures.background.isnan() and failures(measures) == []


def test_stop_ends_training(tmp_path):
    alarm = CollapseAlarm(objects=1, size=16, patience=1, stop=True)
    with pytest.raises(TrainingError, match=r"the objects are empty: .*; training ended, and no checkpoint had been"):
        validate(tmp_path, Fixed(*COLLAPSED["empty"]), alarm)


def test_what_was_said_is_not_said_again_after_a_resume(tmp_path):
    first, second = CollapseAlarm(), CollapseAlarm(objects=1, size=16, patience=1, stop=True)
    first.raised = ["empty"]
    second.load_state_dict(first.state_dict())
    validate(tmp_path, Fixed(*COLLAPSED["empty"]), second)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`patience` must be at least 1, but got 0"):
        CollapseAlarm(patience=0)
