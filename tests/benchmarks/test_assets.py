"""The asset of a sharp object looks like its volume, as the script measures it."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from vfusion3d import ReconstructorConfig, TriplaneReconstructor
from vfusion3d.errors import MissingExtraError
from vfusion3d.models import Triplanes
from vfusion3d.models.field import TriplaneField
from vfusion3d.rendering.turntable import turntable_cameras

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "assets.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    from vfusion3d.meshes.vtk_renderer import select_window

    try:
        select_window()
    except MissingExtraError as error:
        pytest.skip(str(error))
    return runpy.run_path(str(SCRIPT))


@torch.no_grad()
def test_a_sharp_object(script: dict[str, Any]) -> None:
    config = ReconstructorConfig.preset(
        "tiny", pixel_aligned_channels=0, density_sphere_slope=300.0, density_sphere_radius=0.6
    )
    torch.manual_seed(0)
    field = TriplaneField(config)
    for layer in field.layers[::2]:
        torch.nn.init.kaiming_normal_(layer.weight)
    noise = torch.randn(3, config.triplane_channels, 24, 24)
    planes = torch.nn.functional.avg_pool2d(noise, 5, 1)[None] * 4
    scene = Triplanes(field, planes, torch.eye(4)[None], None, None, 48, 48)
    mesh = scene.mesh(0, 64, faces=4000)
    textured = scene.textured(mesh, size=256)
    cameras = turntable_cameras(2, elevation=20.0)
    painted, baked = (script["compare"](scene, each, cameras, 96) for each in (mesh, textured))
    assert baked["foreground_psnr"] > 25 and baked["psnr"] > 30 and baked["iou"] > 0.97
    assert baked["psnr"] > painted["psnr"] + 1 and baked["ceiling"] > baked["foreground_psnr"]
    # At another density the silhouettes are others.
    elsewhere = script["compare"](scene, scene.mesh(0, 64, 10.0, faces=4000), cameras, 96)
    assert elsewhere["iou"] < 0.95


def test_the_script(script: dict[str, Any], tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    torch.manual_seed(0)
    TriplaneReconstructor(ReconstructorConfig.preset("tiny", iso_threshold=0.5)).save_pretrained(tmp_path / "model")
    picture = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(picture).ellipse((25, 15, 70, 80), fill="red")
    picture.save(tmp_path / "ball.png")
    small = ["--resolution", "16", "--faces", "100", "--texture-size", "32", "--views", "1", "--size", "16", "--json"]
    monkeypatch.setattr(
        sys, "argv", ["assets.py", str(tmp_path / "ball.png"), "--model", str(tmp_path / "model"), *small]
    )
    assert script["main"]() == 0
    [row] = json.loads(capsys.readouterr().out)["results"]
    assert set(row["texture"]) == set(row["vertex_colours"]) == {"psnr", "foreground_psnr", "ceiling", "iou"}
    assert row["texture"]["psnr"] is None  # a random volume is nowhere opaque
    monkeypatch.setattr(sys, "argv", ["assets.py", str(tmp_path / "no.png"), "--model", str(tmp_path / "model")])
    assert script["main"]() == 2 and "no.png" in capsys.readouterr().err
