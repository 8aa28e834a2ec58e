"""Blender against VTK. Runs where the environment variable VFUSION3D_BLENDER names Blender or a Python with bpy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from vfusion3d.cameras import Cameras, look_at
from vfusion3d.errors import MeshError, MissingExtraError, UsageError
from vfusion3d.meshes.blender import BLENDER_KEY, BlenderSettings, find_blender, render_with_blender
from vfusion3d.meshes.mesh import Mesh, MeshPart

HEIGHT, WIDTH = 100, 140


@pytest.fixture(scope="module")
def blender() -> BlenderSettings:
    if BLENDER_KEY not in os.environ:
        pytest.skip(f"{BLENDER_KEY} is not set")
    return BlenderSettings(find_blender(), samples=16)


@pytest.fixture
def cameras() -> Cameras:
    eyes = torch.tensor([[2.5, 0.5, 1.0], [-1.0, 2.0, -1.5]])
    return look_at(eyes, torch.tensor([1.2, 1.5, 0.45, 0.55]))  # off-centre, not square


def knot(colour: tuple[int, int, int]) -> MeshPart:
    """An asymmetric, smooth thing with a hole and a texture of stripes."""
    torus = trimesh.creation.torus(0.6, 0.2)
    vertices = torus.vertices * [1.0, 0.8, 1.3] + 0.15 * torus.vertices[:, [1, 2, 0]]
    stripes = np.zeros((4, 4, 4), dtype=np.uint8)
    stripes[::2] = (*colour, 255)
    stripes[1::2] = (*colour[::-1], 255)
    return MeshPart(
        vertices=vertices.astype(np.float32),
        faces=np.asarray(torus.faces),
        normals=torus.vertex_normals.astype(np.float32),
        colours=np.full((len(vertices), 4), 255, dtype=np.uint8),
        uv=np.stack([vertices[:, 0], 2 * vertices[:, 2]], -1).astype(np.float32),
        texture=np.repeat(np.repeat(stripes, 8, 0), 8, 1),
    )


@pytest.mark.slow
@pytest.mark.parametrize("lighting", ["unlit", "lambert"])
def test_both_back_ends_draw_the_same(
    blender: BlenderSettings, renderers: dict, cameras: Cameras, box: Callable, tmp_path: Path, lighting: str
) -> None:
    for mesh in (Mesh((knot((220, 120, 40)),)), Mesh((box(), box((0.5, 0.5, 0.5), (0.3, 0.2, 0.1), (255, 0, 0))))):
        ours = renderers[lighting].render(mesh, cameras, HEIGHT, WIDTH)
        theirs = render_with_blender(mesh, cameras, HEIGHT, WIDTH, lighting, blender, tmp_path / "scene")
        for a, b in zip(ours[..., 3] > 127, theirs[..., 3] > 127, strict=True):
            assert a.sum() > 500
            assert (a & b).sum() / (a | b).sum() >= 0.99
        inside = (ours[..., 3] == 255) & (theirs[..., 3] == 255)
        difference = abs(ours[inside].astype(int) - theirs[inside])
        assert difference.mean() < (3 if lighting == "unlit" else 25)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_points_land_where_the_cameras_project_them(
    blender: BlenderSettings, cameras: Cameras, box: Callable, tmp_path: Path
) -> None:
    for point in np.random.default_rng(0).uniform(-0.35, 0.35, (2, 3)):
        mesh = Mesh((box(tuple(point), (0.03,) * 3, (255, 255, 255)),))
        views = render_with_blender(mesh, cameras, HEIGHT, WIDTH, "unlit", blender, tmp_path / "scene")
        projected, _ = cameras.project(torch.tensor(point, dtype=torch.float32).expand(2, 1, 3))
        for view, (u, v) in zip(views[..., 3].astype(float), projected[:, 0].tolist(), strict=True):
            rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
            found = (view * columns).sum() / view.sum(), (view * rows).sum() / view.sum()
            assert np.hypot(found[0] - u * WIDTH, found[1] - v * HEIGHT) <= 0.5


@pytest.mark.slow
def test_alpha_means_the_same(blender: BlenderSettings, cameras: Cameras, box: Callable, tmp_path: Path) -> None:
    part = box(color=(200, 100, 50))
    colours = part.colours.copy()
    colours[:, 3] = 102  # 0.4
    for changes, alpha in (
        ({"alpha": "mask", "alpha_cutoff": 0.3}, 255),
        ({"alpha": "mask"}, 0),
        ({"alpha": "opaque"}, 255),
    ):
        mesh = Mesh((replace(part, colours=colours, **changes),))
        view = render_with_blender(mesh, cameras[:1], HEIGHT, WIDTH, "unlit", blender, tmp_path / "scene")[0]
        assert view[55, 63, 3] == alpha


def stand_in(folder: Path, body: str) -> str:
    """An executable that says that it is Blender."""
    path = folder / "blender"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Blender 4.5.0" && exit 0\n{body}\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_a_blender_that_fails_gets_one_sentence_and_leaves_nothing(
    tmp_path: Path, cameras: Cameras, box_mesh: Callable
) -> None:
    (tmp_path / "out").mkdir()
    command = stand_in(tmp_path, "echo starting; echo Error: no memory. >&2; exit 1")
    settings = BlenderSettings(find_blender(command))
    with pytest.raises(MeshError, match=r"could not be drawn by Blender \(Error: no memory\); try VTK\.$"):
        render_with_blender(box_mesh(), cameras, 8, 8, "unlit", settings, tmp_path / "out" / "scene")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_blender_gets_the_script_and_the_job(tmp_path: Path, cameras: Cameras, box_mesh: Callable) -> None:
    command = stand_in(tmp_path, f'echo "$@" > {tmp_path}/asked; for last; do :; done; cp "$last" {tmp_path}; exit 1')
    with pytest.raises(MeshError):
        render_with_blender(box_mesh(), cameras, 8, 8, "lambert", BlenderSettings(command), tmp_path / "scene")
    asked = (tmp_path / "asked").read_text()
    assert "--background" in asked and "blender_script.py -- " in asked
    job = (tmp_path / "job.json").read_text()
    assert '"kind": "lights"' in job and '"samples": 64' in job


def test_what_is_no_blender_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingExtraError, match="'/nowhere/blender' does not exist"):
        find_blender("/nowhere/blender")
    with pytest.raises(UsageError, match="`samples`"):
        BlenderSettings("blender", samples=0)
    monkeypatch.setenv(BLENDER_KEY, "false")
    with pytest.raises(MissingExtraError, match="neither Blender nor a Python that has it"):
        find_blender()


def test_the_script_needs_nothing_but_numpy() -> None:
    source = Path(__file__).parents[2] / "vfusion3d" / "meshes" / "blender_script.py"
    run = f"import runpy, sys; runpy.run_path({str(source)!r}, run_name='x')"
    alone = f"{run}; print({{'torch', 'PIL'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "set()"
