from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vfusion3d.errors import UsageError
from vfusion3d.meshes.lighting import LAMBERT, random_lights, read_environment


def write_radiance(path: Path, picture: np.ndarray, runs: bool = True) -> None:
    """``[H, W, 3]`` as a Radiance file, run-length encoded (with runs where a row's channel is constant) or plain."""
    brightest = picture.max(-1)
    mantissa, exponent = np.frexp(np.maximum(brightest, 1e-30))
    rgb = picture * (mantissa * 256 / np.maximum(brightest, 1e-30))[..., None]
    rgbe = np.concatenate([rgb, (exponent + 128)[..., None]], -1).clip(0, 255).astype(np.uint8)
    height, width = picture.shape[:2]
    body = b""
    for row in rgbe:
        if not runs:
            body += row.tobytes()
            continue
        body += bytes([2, 2, width >> 8, width & 255])
        for channel in row.T:
            for start in range(0, width, 100):
                piece = channel[start : start + 100]
                body += (
                    bytes([128 + len(piece), piece[0]]) if np.ptp(piece) == 0 else bytes([len(piece)]) + piece.tobytes()
                )
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + body)


def directions(height: int, width: int) -> np.ndarray:
    polar = (np.arange(height) + 0.5) / height * np.pi
    azimuth = 2 * np.pi * (0.5 - (np.arange(width) + 0.5) / width)
    return np.stack(
        [
            np.sin(polar)[:, None] * np.cos(azimuth),
            np.sin(polar)[:, None] * np.sin(azimuth),
            np.repeat(np.cos(polar)[:, None], width, 1),
        ],
        -1,
    )


@pytest.mark.parametrize("runs", [True, False])
def test_an_environment_is_as_bright_as_the_sum_over_its_pixels(tmp_path: Path, runs: bool) -> None:
    height, width = 32, 64
    towards = directions(height, width)
    sky = np.clip(towards @ [0.6, 0.0, 0.8], 0, None)[..., None] ** 2 * [1.0, 0.8, 0.5] + [0.1, 0.2, 0.3]
    write_radiance(tmp_path / "sky.hdr", sky, runs)
    environment = read_environment(tmp_path / "sky.hdr")
    normals = np.random.default_rng(0).normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    area = np.sin((np.arange(height) + 0.5) / height * np.pi) * (np.pi / height) * (2 * np.pi / width)
    cosines = np.maximum(np.einsum("hwc,nc->nhw", towards, normals), 0)
    exact = np.einsum("nhw,hwc,h->nc", cosines, sky, area) / np.pi * environment.exposure
    np.testing.assert_allclose(environment.shade(normals), exact, atol=0.02)
    assert environment.shade(normals).max() <= 1.0001
    assert environment.name == "hdri:sky.hdr"


def test_an_even_sky_lights_all_sides_alike(tmp_path: Path) -> None:
    write_radiance(tmp_path / "even.hdr", np.full((600, 1200, 3), 7.0))  # also: larger than what is looked at
    shade = read_environment(tmp_path / "even.hdr").shade(np.eye(3))
    np.testing.assert_allclose(shade, 1.0, atol=1e-3)


def test_random_lights_clip_nothing_and_depend_on_the_generator_only() -> None:
    normals = np.random.default_rng(1).normal(size=(5000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    drawn = [random_lights(0, np.random.default_rng(k)) for k in range(20)]
    for lights in drawn:
        shade = lights.shade(normals)
        assert 0.84 < shade.max() <= 1.01
        assert shade.min() >= 0.3
    assert len({lights.ambient for lights in drawn}) == 20
    assert drawn[3] == random_lights(0, np.random.default_rng(3))
    assert LAMBERT.shade(normals).max() <= 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"no picture", "no Radiance"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9 +X 9\n\x02\x02\x00\x09\x05", "damaged"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n\0\0\0\0", "black"),
    ],
)
def test_pictures_that_are_no_environment(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "sky.hdr"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        read_environment(path)
    assert "sky.hdr" in str(caught.value) and "\n" not in str(caught.value)
