from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from vfusion3d.alpha import over_white, rgb_pixels, straight_pixels
from vfusion3d.cameras import orbit
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.shard_writer import encode
from vfusion3d.engine import FrameMasks
from vfusion3d.engine.stages.pictures import frame_pixels
from vfusion3d.errors import UsageError


@pytest.fixture(scope="module")
def views() -> torch.Tensor:
    """Premultiplied RGBA of an object without holes, ``[2, 4, 64, 64]``."""
    return render(sample_objects(torch.tensor([5])), orbit(views=2, elevation=0.4).unsqueeze(0), 64, 64, 3)[0]


def cut(*items: list[np.ndarray], **options):
    frames = [[encode(frame) for frame in frames] for frames in items]
    return FrameMasks(**options)(pa.table({"id": [str(n) for n in range(len(items))], "frames": frames})).to_pylist()


def test_the_outline_is_soft_and_has_the_objects_colour(views):
    [row] = cut(list(rgb_pixels(over_white(views))))
    found = torch.from_numpy(frame_pixels(row["rgba_frames"])).movedim(-1, 1) / 255
    edge = (views[:, 3] > 0.02) & (views[:, 3] < 0.98)
    error = (found[:, 3] - views[:, 3]).abs()
    hard = ((over_white(views) < 0.97).any(1).float() - views[:, 3]).abs()  # what a threshold alone gives
    assert edge.sum() > 150 and error.mean() < 0.003 and error[edge].mean() < 0.05 * hard[edge].mean()
    straight = views[:, :3] / views[:, 3:].clamp_min(1e-6)
    wrong = (found[:, :3] - straight).abs().amax(1)[edge & (views[:, 3] > 0.3)]
    assert wrong.median() < 0.02  # not the outline's mixtures with white, which are 0.4 off
    assert row["mask_coverage"] == pytest.approx(float(views[:, 3].mean()), abs=0.01)
    assert row["mask_least"] <= row["mask_coverage"] and row["mask_edge_frames"] == 0


def test_alpha_that_is_true_stays(views):
    pixels = list(straight_pixels(views))
    [row] = cut(pixels)
    seen = pixels[0][..., 3] > 0
    kept = frame_pixels(row["rgba_frames"])[0]
    assert np.array_equal(kept[..., 3], pixels[0][..., 3]) and np.array_equal(kept[seen], pixels[0][seen])


def test_dust_goes_and_edges_and_blanks_are_told():
    white = np.full((32, 32, 3), 255, np.uint8)
    object_, cut_off = white.copy(), white.copy()
    object_[8:24, 8:24], object_[2:4, 2:4] = 40, 90  # with a speck
    cut_off[8:24, 20:] = 40
    grey = np.full_like(white, 240)
    grey[8:24, 8:24] = 40
    rows = cut([object_, cut_off], [object_, white], [grey, grey])
    assert rows[0]["mask_edge_frames"] == 1 and not frame_pixels(rows[0]["rgba_frames"])[0][2:4, 2:4, 3].any()
    assert rows[0]["mask_least"] == pytest.approx(16 * 12 / 1024, abs=0.01)
    assert rows[1]["error"] == "Frame 1 shows nothing on white." and rows[1]["rgba_frames"] is None
    assert rows[2]["mask_coverage"] == 1  # not white enough
    [row] = cut([grey, grey], tolerance=0.1)
    assert row["mask_coverage"] == pytest.approx(0.25, abs=0.01)


def test_what_does_not_go_together(tmp_path):
    for options, words in (
        ({"strategy": "magic"}, "`strategy` must be one of auto, alpha, white, rembg, birefnet, but got 'magic'"),
        ({"weights": tmp_path / "x.onnx"}, "`weights` is for the strategies rembg and birefnet, not for 'auto'"),
        ({"strategy": "rembg"}, "Background strategy 'rembg' needs the file isnet-general-use.onnx"),
        ({"tolerance": 1.5}, r"`tolerance` must be in \(0, 1\), but got 1.5"),
    ):
        with pytest.raises(UsageError, match=words):
            FrameMasks(**options)
