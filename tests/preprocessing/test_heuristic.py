from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from vfusion3d.errors import InputImageError
from vfusion3d.preprocessing import read_picture, remove_background
from vfusion3d.preprocessing.background import HEURISTIC_METHOD

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "images"


SIZE = 128


def grid(size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    v, u = np.mgrid[0:size, 0:size] / size * 2 - 1
    return u, v


def object_mask(kind: str) -> np.ndarray:
    u, v = grid()
    disc = (u / 0.55) ** 2 + ((v - 0.1) / 0.7) ** 2 < 1
    return disc & ~((u**2 + v**2) < 0.07) if kind == "ring" else disc


def background(kind: str) -> np.ndarray:
    u, v = grid()
    if kind == "vignette":
        return np.clip(np.array([0.35, 0.5, 0.6]) * (1.2 - 0.5 * np.hypot(u, v))[..., None], 0, 1)
    if kind == "grain":
        noise = np.random.default_rng(1).normal(0, 0.03, (SIZE, SIZE, 3))
        return np.clip(np.array([0.6, 0.55, 0.5]) + noise, 0, 1)
    return np.full((SIZE, SIZE, 3), {"white": 1.0, "black": 0.0, "grey": 0.5}[kind])


def picture(mask: np.ndarray, behind: np.ndarray) -> Image.Image:
    stripes = (np.sin(np.arange(SIZE) / 4) > 0)[:, None, None]
    colours = np.where(stripes, np.array([0.85, 0.2, 0.15]), np.array([0.2, 0.3, 0.75]))
    colours = colours * (0.7 + 0.3 * grid()[0][..., None])
    soft = ndimage.gaussian_filter(mask.astype(float), 0.7)[..., None]
    pixels = colours * soft + behind * (1 - soft)
    return Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).convert("RGBA")


def overlap(cut: Image.Image, mask: np.ndarray) -> float:
    found = np.asarray(cut.getchannel("A")) > 127
    return float((found & mask).sum() / (found | mask).sum())


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        *(("disc", kind) for kind in ("white", "black", "grey", "vignette", "grain")),
        ("ring", "white"),
        ("ring", "grey"),
    ],
)
def test_finds_the_object_on_a_plain_background(shape, kind):
    mask = object_mask(shape)
    cut = remove_background(picture(mask, background(kind)))
    assert cut.method == HEURISTIC_METHOD
    assert overlap(cut.rgba, mask) > 0.95


def test_says_that_it_is_a_heuristic():
    assert "heuristic" in HEURISTIC_METHOD and "offline" in HEURISTIC_METHOD and "not a learned" in HEURISTIC_METHOD


def test_object_that_leaves_the_picture():
    u, v = grid()
    mask = (np.abs(u) < 0.4) & (v > -0.5)
    assert overlap(remove_background(picture(mask, background("grey"))).rgba, mask) > 0.93


def test_edges_are_soft_and_hold_no_background_colour():
    mask = object_mask("disc")
    rgba = np.asarray(remove_background(picture(mask, background("white"))).rgba).astype(int)
    edge = (rgba[..., 3] > 20) & (rgba[..., 3] < 235)
    assert edge.sum() > 50
    assert np.median(rgba[edge][:, :3].max(-1)) < 235  # white would be 255


def test_is_deterministic():
    source = picture(object_mask("ring"), background("grain"))
    first, second = (np.asarray(remove_background(source).rgba) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("colour", ["white", "black", (90, 120, 30)])
def test_nothing_there(colour):
    with pytest.raises(InputImageError, match=r"Picture 'a\.png' has no foreground"):
        remove_background(Image.new("RGBA", (100, 80), colour), "Picture 'a.png'")


def test_nothing_but_a_gradient():
    pixels = np.repeat(np.linspace(40, 220, 100).astype(np.uint8)[:, None], 100, axis=1)
    with pytest.raises(InputImageError, match="no foreground"):
        remove_background(Image.fromarray(pixels).convert("RGBA"))


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (300, 20)])
def test_small_and_elongated_pictures(size):
    source = Image.new("RGB", size, "white")
    source.paste("red", (size[0] // 4, size[1] // 4, size[0] - size[0] // 4, size[1] - size[1] // 4))
    mask = np.asarray(source)[..., 1] < 128
    assert overlap(remove_background(source.convert("RGBA")).rgba, mask) > 0.6


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data/images")
@pytest.mark.parametrize("name", ["bulldog.png", "unicorn.png"])
def test_real_cutouts_on_grey(name):
    truth = read_picture(SHARED / name)
    truth.thumbnail((400, 400))
    canvas = Image.new("RGBA", (truth.width + 40, truth.height + 40), (128, 128, 128, 255))
    canvas.alpha_composite(truth, (20, 20))
    mask = np.pad(np.asarray(truth.getchannel("A")) > 127, 20)
    assert overlap(remove_background(canvas).rgba, mask) > 0.9
