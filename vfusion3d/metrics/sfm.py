"""Whether structure from motion finds the orbit again in its frames (paper, section 3.2: what keeps bad videos out)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from vfusion3d.cameras import Cameras
from vfusion3d.cameras.conventions import to_opencv_w2c
from vfusion3d.errors import MissingExtraError, VFusion3DError
from vfusion3d.metrics.per_object import PerObjectMetric

ANGLE_LIMIT = 10.0
"""Degrees that a frame's relative rotation may be off the ideal orbit's (VIDEO.md, "Data engine")."""
PASSING_SHARE = 0.5
"""Share of the frames that must be within the limit: 8 of 16."""


class FoundCameras(NamedTuple):
    """Cameras that structure from motion registered, up to a similarity of the world."""

    frames: Tensor
    """Which frames they are, ascending, int64, ``[R]``."""
    rotations: Tensor
    """World-to-camera, OpenCV's axes, float64, ``[R, 3, 3]``."""
    points: int
    """Points that were triangulated."""


def find_cameras(
    frames: Tensor, intrinsics: Tensor, masks: Tensor | None = None, seed: int = 0, timeout: float = 600.0
) -> FoundCameras:
    """Structure from motion with COLMAP (pycolmap) and known lenses, on one core and so the same each time.

    It runs in a process of its own: one that crashes or takes too long has found nothing, and a warning says so.

    Args:
        frames: ``[F, 3, H, W]`` in [0, 1]; 256 pixels a side or more, else there are few features.
        intrinsics: Normalised ``(fx, fy, cx, cy)``, ``[F, 4]``.
        masks: Where features count, above 0.5, ``[F, H, W]``; everywhere by default.
        seed: Of its random choices.
        timeout: Seconds it may take.

    Raises:
        MissingExtraError: if pycolmap is not installed.
        VFusion3DError: if it refuses to run.
    """
    require_pycolmap()
    height, width = frames.shape[-2:]
    scale = intrinsics.new_tensor([width, height, width, height])
    names = [f"{index:03d}.png" for index in range(len(frames))]
    with tempfile.TemporaryDirectory(prefix="vfusion3d-sfm-") as place:
        folder = Path(place)
        _write_pictures(folder / "images", names, frames.movedim(1, -1))
        if masks is not None:
            _write_pictures(folder / "masks", [f"{name}.png" for name in names], (masks > 0.5).float())
        cameras = dict(zip(names, (intrinsics * scale).double().tolist(), strict=True))
        (folder / "job.json").write_text(json.dumps({"cameras": cameras, "seed": seed}), encoding="utf-8")
        failure = _run(folder, timeout)
        if failure:
            warnings.warn(f"Structure from motion {failure}; its frames count as not registered.", stacklevel=2)
            return FoundCameras(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, 3, dtype=torch.float64), 0)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    found = sorted(result["poses"])
    poses = torch.tensor([result["poses"][name] for name in found], dtype=torch.float64).view(-1, 3, 4)
    indices = torch.tensor([names.index(name) for name in found], dtype=torch.int64)
    return FoundCameras(indices, poses[..., :3], result["points"])


def require_pycolmap() -> None:
    """See that `find_cameras` can run.

    Raises:
        MissingExtraError: if pycolmap is not installed.
    """
    if importlib.util.find_spec("pycolmap") is None:
        raise MissingExtraError("Structure from motion needs pycolmap: pip install 'vfusion3d[sfm]'.")


def _write_pictures(folder: Path, names: list[str], pixels: Tensor) -> None:
    folder.mkdir()
    for name, picture in zip(names, pixels, strict=True):
        Image.fromarray((picture.clamp(0, 1) * 255).round().byte().cpu().numpy()).save(folder / name)


def _run(folder: Path, timeout: float) -> str | None:
    """Run the job; why it has no result, or None if it has."""
    command = [sys.executable, str(Path(__file__).with_name("colmap_script.py")), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"took more than {timeout:g} seconds"
    if done.returncode < 0:
        return f"crashed (signal {-done.returncode})"
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise VFusion3DError(f"Structure from motion did not run ({said[-1].strip()}); is pycolmap 4 installed?")
    return None


def rotation_errors(found: Tensor, ideal: Tensor, limit: float = ANGLE_LIMIT) -> Tensor:
    """Angles between rotations that are known up to a turn of the world, after the turn that fits most of them.

    Each camera proposes the turn that makes it fit exactly; the one under which most are within the limit is averaged
    over those.

    Args:
        found, ideal: World-to-camera, ``[R, 3, 3]``.
        limit: Degrees.

    Returns:
        Degrees, ``[R]``.

    Example:
        >>> from vfusion3d.cameras import orbit
        >>> ideal = orbit(views=8).world_to_camera[:, :3, :3]
        >>> turned = ideal @ ideal[3]  # the same cameras in another world
        >>> bool((rotation_errors(turned, ideal) < 0.1).all())
        True
    """
    found, ideal = found.double(), ideal.double()
    if not len(found):
        return found.new_zeros(0)
    turns = ideal.mT @ found
    angles = _angles(found[:, None], ideal[:, None] @ turns)  # [camera, proposal]
    close = angles <= limit
    proposal = int((close.sum(0) - angles.clamp_max(limit).mean(0) / (2 * limit)).argmax())  # ties: the nearer
    u, _, v = torch.linalg.svd(turns[close[:, proposal]].sum(0))
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.linalg.det(u @ v)
    return _angles(found, ideal @ (u * sign @ v))


def _angles(first: Tensor, second: Tensor) -> Tensor:
    """Angle between rotations ``[..., 3, 3]``, degrees; exact near 0 and 180 (from the chord)."""
    chord = (first - second).square().sum((-2, -1)).sqrt() / 8**0.5
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


def sfm_figures(
    frames: Tensor, cameras: Cameras, masks: Tensor | None = None, seed: int = 0, timeout: float = 600.0
) -> dict[str, float]:
    """Whether an orbit's frames can be registered, and where they should be.

    Args:
        frames, masks, seed, timeout: As in `find_cameras`.
        cameras: The ideal orbit, ``[F]``.

    Returns:
        ``sfm_registered`` and ``sfm_within`` (relative rotation within 10 degrees of the ideal orbit), shares of the
        frames, and ``sfm_pass``, 1 if at least half of the frames are within, else 0. Only 16 views are hard to
        register, so that even true renders fall short: report theirs beside.

    Raises:
        MissingExtraError: if pycolmap is not installed.
    """
    found = find_cameras(frames, cameras.intrinsics, masks, seed, timeout)
    ideal, _ = to_opencv_w2c(cameras[found.frames].to("cpu", torch.float64), 1, 1)
    within = int((rotation_errors(found.rotations, ideal[:, :3, :3]) <= ANGLE_LIMIT).sum())
    count = len(frames)
    return {
        "sfm_registered": len(found.frames) / count,
        "sfm_within": within / count,
        "sfm_pass": float(within >= PASSING_SHARE * count),
    }


class SfmConsistency(PerObjectMetric):
    """Means of `sfm_figures` over objects, each counted once (`PerObjectMetric`).

    ``sfm_pass`` is the pass rate, ``sfm_pass_low`` and ``sfm_pass_high`` are the ends of its 95 % interval.

    Args:
        seed, timeout: As in `find_cameras`.
        settings: As of every `torchmetrics.Metric`.
    """

    NAMES = ("sfm_registered", "sfm_within", "sfm_pass")
    RATES = ("sfm_pass",)

    def __init__(self, seed: int = 0, timeout: float = 600.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.seed, self.timeout = seed, timeout

    def update(self, frames: Tensor, samples: Tensor, cameras: Cameras, masks: Tensor | None = None) -> None:
        """Register B orbits ``[B, F, 3, H, W]`` in [0, 1] of ideal cameras ``[B, F]``; ``samples`` int64, ``[B]``."""
        rows = [
            sfm_figures(frames[b], cameras[b], None if masks is None else masks[b], self.seed, self.timeout)
            for b in range(len(frames))
        ]
        self.record(
            samples, {name: samples.new_tensor([row[name] for row in rows], dtype=torch.float32) for name in self.NAMES}
        )
