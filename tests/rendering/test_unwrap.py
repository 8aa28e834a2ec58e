import time

import numpy as np
import pytest
import torch

from vfusion3d.rendering import unwrap as module
from vfusion3d.rendering.isosurface import extract_isosurface
from vfusion3d.rendering.texture import rasterise
from vfusion3d.rendering.unwrap import squares, unwrap


@pytest.fixture(scope="module")
def ball():
    return extract_isosurface(lambda points: 0.7 - points.norm(dim=-1), 0.0, 12)


def check(atlas, mesh, size: int) -> None:
    """Every face keeps its corners, and no two faces share the centre of a texel."""
    assert np.array_equal(atlas.original[atlas.faces], mesh.faces)
    assert atlas.uv.shape == (len(atlas.original), 2) and atlas.uv.min() >= 0 and atlas.uv.max() <= 1
    one_by_one = sum(len(rasterise(atlas.uv, face[None], size).face) for face in atlas.faces)
    together = rasterise(atlas.uv, atlas.faces, size)
    assert len(together.face) == one_by_one
    a, b, c = (atlas.uv[atlas.faces[:, k]].astype(np.float64) for k in range(3))
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert area[np.unique(together.face)].sum() > 0.999 * area.sum()  # slivers may lie between the texels' centres


def test_charts(ball):
    atlas = unwrap(ball.vertices, ball.faces)
    assert atlas.method == "charts" and len(atlas.original) < 2 * len(ball.vertices)
    check(atlas, ball, 509)


def test_squares(ball):
    atlas = squares(ball.faces)
    assert atlas.method == "squares"
    check(atlas, ball, 256)


@pytest.mark.parametrize("program", ["while True: pass", "raise SystemExit(1)", "print('no arrays')", "import nothing"])
def test_charts_that_fail_or_take_too_long_become_squares(ball, monkeypatch, program):
    monkeypatch.setattr(module, "_CHARTS", program)
    started = time.monotonic()
    atlas = unwrap(ball.vertices, ball.faces, seconds=2.0)
    assert atlas.method == "squares" and np.array_equal(atlas.original[atlas.faces], ball.faces)
    assert time.monotonic() - started < 30


def test_one_face():
    atlas = squares(torch.tensor([[0, 1, 2]]).numpy())
    assert len(rasterise(atlas.uv, atlas.faces, 32).face) > 100
