"""docs/gallery.py as a user runs it, on a good, a doubtful and a broken picture."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

SCRIPT = Path(__file__).parents[1] / "docs" / "gallery.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the documentation is not beside the tests")


@pytest.fixture
def call(monkeypatch):
    def run(*options) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, options)])
        return runpy.run_path(str(SCRIPT))["main"]()

    return run


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    ball = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(ball).ellipse((8, 6, 56, 58), fill="red")
    ball.save(folder / "ball & co.png")
    cut = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    cut.paste("red", (10, 5, 60, 64))
    cut.save(folder / "cut.png")
    (folder / "text.png").write_text("no picture")
    (folder / "MANIFEST.csv").write_text("name\n")
    return folder


def test_page_thumbnails_and_sheet(pictures, tmp_path, call, capsys):
    assert call(pictures, "--output", tmp_path / "gallery", "--thumbnail", 64) == 0
    printed = capsys.readouterr()
    assert "3 pictures, 1 with a warning, 1 failed" in printed.out and "text.png' is not a picture" in printed.err
    page = (tmp_path / "gallery" / "index.html").read_text(encoding="utf-8")
    assert "ball &amp; co.png" in page and "may be cut off there" in page and "text.png&#x27; is not a picture" in page
    thumbnails = sorted(path.name for path in (tmp_path / "gallery" / "thumbnails").iterdir())
    assert thumbnails == [f"{n:03d}_{kind}.png" for n in (0, 1) for kind in ("cutout", "input", "recentred")]
    assert all(f"thumbnails/{name}" in page for name in thumbnails)
    recentred = Image.open(tmp_path / "gallery" / "thumbnails" / "001_recentred.png")
    assert recentred.size == (64, 64) and recentred.getpixel((32, 32)) == (255, 0, 0)
    assert recentred.getpixel((32, 2)) == (255, 255, 255)  # the border
    assert Image.open(tmp_path / "gallery" / "sheet.png").size == (4 * (3 * 32 + 8), 32 + 22)
    assert call(pictures / "cut.png", "--output", tmp_path / "gallery") == 0  # replaces its own
    assert len(list((tmp_path / "gallery" / "thumbnails").iterdir())) == 3


def test_refusals(pictures, tmp_path, call, capsys):
    (tmp_path / "empty").mkdir()
    assert call(tmp_path / "empty", "--output", tmp_path / "gallery") == 2
    assert "There is no picture in" in capsys.readouterr().err
    assert call(pictures, "--output", tmp_path / "gallery", "--background", "rembg") == 2
    assert "needs the file isnet-general-use.onnx" in capsys.readouterr().err
    assert call(pictures, "--output", pictures) == 2  # a folder with other things in it
    assert "text.png" in {path.name for path in pictures.iterdir()} and not (tmp_path / "gallery").exists()
