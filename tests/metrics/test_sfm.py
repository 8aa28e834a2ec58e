from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from tests.metrics.noise_ball import ball_views
from vfusion3d.cameras import orbit
from vfusion3d.errors import MissingExtraError, VFusion3DError
from vfusion3d.metrics import SfmConsistency, find_cameras, rotation_errors, sfm, sfm_figures, wilson_interval

pycolmap = pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="needs pycolmap")


def turned(degrees: float) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    c, s = angle.cos(), angle.sin()
    return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)


def test_rotations_are_compared_up_to_a_turn_of_the_world():
    ideal = orbit(views=16, elevation=0.3).world_to_camera[:, :3, :3].double()
    world = ideal[5]
    found = ideal @ world
    found[3] = turned(4.0) @ found[3]
    found[10] = turned(40.0) @ found[10]
    errors = rotation_errors(found, ideal)
    # The turn is averaged over those that agree: 4 degrees of one in 15 moves it by about 0.27.
    assert float(errors[3]) == pytest.approx(4, abs=0.4) and float(errors[10]) == pytest.approx(40, abs=0.4)
    others = [k for k in range(16) if k not in (3, 10)]
    assert float(errors[others].max()) < 0.4

    shuffled = ideal[torch.randperm(16, generator=torch.Generator().manual_seed(0))] @ world
    assert int((rotation_errors(shuffled, ideal) <= 10).sum()) < 8
    backwards = ideal.flip(0) @ world  # an orbit in the wrong direction
    assert int((rotation_errors(backwards, ideal) <= 10).sum()) < 8
    assert rotation_errors(ideal[:0], ideal[:0]).shape == (0,)


@pycolmap
def test_an_orbit_is_found_again():
    cameras = orbit(views=24, elevation=0.3)[:4]
    frames = ball_views(cameras, 128)
    found = find_cameras(frames, cameras.intrinsics)
    assert found.frames.tolist() == [0, 1, 2, 3] and found.points > 20
    opengl = cameras.world_to_camera[:, :3, :3].double()
    ideal = opengl * torch.tensor([1.0, -1.0, -1.0])[:, None]
    assert float(rotation_errors(found.rotations, ideal).max()) < 2
    again = find_cameras(frames, cameras.intrinsics)
    assert torch.equal(found.rotations, again.rotations)


@pycolmap
def test_what_has_no_features_counts_as_nothing():
    metric = SfmConsistency()
    metric.update(torch.ones(1, 4, 3, 64, 64), torch.tensor([0]), orbit(views=4).unsqueeze(0))
    values = {name: float(value) for name, value in metric.compute().items()}
    assert values.pop("sfm_pass_high") == pytest.approx(wilson_interval(0, 1).high)
    assert values == dict.fromkeys((*metric.NAMES, "sfm_pass_low"), 0.0)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("import time; time.sleep(60)", r"took more than 0.5 seconds; its frames count as not registered"),
        ("import os; os.abort()", r"crashed \(signal 6\)"),
    ],
)
def test_a_hang_or_crash_counts_as_nothing(does, said, monkeypatch, tmp_path):
    pretend(does, monkeypatch, tmp_path)
    with pytest.warns(UserWarning, match=said):
        figures = sfm_figures(torch.ones(4, 3, 16, 16), orbit(views=4), timeout=0.5 if "sleep" in does else 60)
    assert figures == {"sfm_registered": 0, "sfm_within": 0, "sfm_pass": 0}


def test_another_pycolmap_is_no_bad_orbit(monkeypatch, tmp_path):
    pretend("raise AttributeError('no such option')", monkeypatch, tmp_path)
    with pytest.raises(VFusion3DError, match=r"did not run \(AttributeError: no such option\); is pycolmap 4"):
        find_cameras(torch.ones(2, 3, 8, 8), torch.ones(2, 4))


def pretend(code: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the process import another pycolmap."""
    (folder / "pycolmap.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_the_pass_rate_has_an_interval(monkeypatch):
    passes = iter([1.0, 0.0, 1.0])
    figures = {"sfm_registered": 1.0, "sfm_within": 0.5}
    monkeypatch.setattr(sfm, "sfm_figures", lambda *_: {**figures, "sfm_pass": next(passes)})
    metric = SfmConsistency()
    metric.update(torch.ones(3, 4, 3, 8, 8), torch.arange(3), orbit(views=4).unsqueeze(0).expand(3, 4))
    values = {name: float(value) for name, value in metric.compute().items()}
    rate = dict(zip(("sfm_pass", "sfm_pass_low", "sfm_pass_high"), wilson_interval(2, 3), strict=True))
    assert values == pytest.approx({**figures, **rate})


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vfusion3d\[sfm\]'"):
        find_cameras(torch.ones(2, 3, 8, 8), torch.ones(2, 4))
