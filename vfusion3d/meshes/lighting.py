"""How a mesh is lit. Lights stand still in the world, so a diffuse point has the same colour in all views."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from vfusion3d.errors import UsageError

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Lights:
    """Distant lights on an ambient floor.

    Args:
        name: What a scene folder calls them.
        ambient: Strength of the light that comes from everywhere, in [0, 1].
        directions: Directions towards the lights, world axes, of any length.
        colours: RGB strengths of the lights. With ``ambient`` they add up to at most 1 for any normal, so that
            nothing is clipped.
    """

    name: str
    ambient: float
    directions: tuple[Vector, ...]
    colours: tuple[Vector, ...]

    def shade(self, normals: np.ndarray) -> np.ndarray:
        """What a white surface looks like: ``[..., 3]`` unit normals -> ``[..., 3]`` RGB."""
        directions = np.array(self.directions).reshape(-1, 3)
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        return self.ambient + np.maximum(normals @ directions.T, 0) @ np.array(self.colours).reshape(-1, 3)


@dataclass(frozen=True)
class Environment:
    """Diffuse light of an environment picture, by spherical harmonics up to order 2 (Ramamoorthi & Hanrahan 2001).

    Args:
        name: What a scene folder calls it.
        file: The picture.
        coefficients: 9 RGB factors of ``1, y, z, x, xy, yz, 3 z^2 - 1, xz, x^2 - y^2``, linear light; the largest
            channel over all normals is 1.
        exposure: What the picture's radiance was multiplied by for that.
    """

    name: str
    file: Path
    coefficients: tuple[Vector, ...]
    exposure: float

    def shade(self, normals: np.ndarray) -> np.ndarray:
        """What a white surface looks like: ``[..., 3]`` unit normals -> ``[..., 3]`` RGB, linear light."""
        return np.maximum(_basis(normals) @ np.array(self.coefficients), 0)


# Directions: a key light above the front, a weaker fill and a rim light.
LAMBERT = Lights(
    "lambert",
    0.58,
    ((1.0, 0.5, 1.2), (0.2, -1.0, 0.3), (-1.0, 0.3, 0.4)),
    ((0.35, 0.35, 0.35), (0.21, 0.21, 0.21), (0.21, 0.21, 0.21)),
)

Lighting = Literal["lambert", "unlit"] | Lights | Environment
"""``lambert`` stands for `LAMBERT`; ``unlit`` shows the base colours as they are."""


def random_lights(seed: int, generator: np.random.Generator) -> Lights:
    """One to four lights from anywhere, of any strength and slightly coloured.

    Args:
        seed: The seed by which a scene folder names them.
        generator: Draws them.
    """
    count = int(generator.integers(1, 5))
    directions = generator.normal(size=(count, 3))
    colours = generator.uniform(0.3, 1.0, (count, 1)) * generator.uniform(0.8, 1.0, (count, 3))
    ambient, brightest = float(generator.uniform(0.3, 0.6)), float(generator.uniform(0.85, 1.0))
    name = f"random:{seed}"
    drawn = Lights(name, 0.0, _vectors(directions), _vectors(colours))
    colours *= (brightest - ambient) / drawn.shade(_sphere()).max()
    return Lights(name, ambient, _vectors(directions), _vectors(colours))


@lru_cache(maxsize=4)
def read_environment(path: str | os.PathLike[str]) -> Environment:
    """The diffuse light of an equirectangular Radiance picture.

    The picture's centre is the world's +X (the front), its upper edge +Z, and azimuth grows to the left, as in
    Blender.

    Args:
        path: A ``.hdr`` file.

    Raises:
        UsageError: if it is missing, no Radiance picture, or black.
    """
    path = Path(path)
    radiance = _read_radiance(path)
    height, width = radiance.shape[:2]
    step = max(1, height // 256)  # the nine coefficients see nothing finer
    radiance = radiance[: height // step * step, : width // step * step].astype(np.float64)
    radiance = radiance.reshape(height // step, step, width // step, step, 3).mean((1, 3))
    height, width = radiance.shape[:2]
    polar = (np.arange(height) + 0.5) / height * np.pi
    azimuth = 2 * np.pi * (0.5 - (np.arange(width) + 0.5) / width)
    z = np.repeat(np.cos(polar)[:, None], width, 1)
    x, y = (np.sin(polar)[:, None] * turn(azimuth)[None] for turn in (np.cos, np.sin))
    solid_angle = np.sin(polar)[:, None] * (np.pi / height) * (2 * np.pi / width)
    moments = np.einsum(
        "hwk,hwc,hw->kc", _basis(np.stack([x, y, z], -1)), radiance, np.broadcast_to(solid_angle, z.shape)
    )
    # The basis is not normalised: its factors come in squared. Then the cosine lobe of each order, over pi.
    norms = np.array([0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274])
    lobes = np.array([1.0] + [2 / 3] * 3 + [1 / 4] * 5)
    coefficients = moments * (norms**2 * lobes)[:, None]
    brightest = float((_basis(_sphere()) @ coefficients).max())
    if not brightest > 0 or not np.isfinite(brightest):
        raise UsageError(f"The environment picture {path} is black or not finite; choose another.")
    return Environment(f"hdri:{path.name}", path, _vectors(coefficients / brightest), 1.0 / brightest)


def _basis(normals: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(normals, -1, 0)
    return np.stack([np.ones_like(x), y, z, x, x * y, y * z, 3 * z**2 - 1, x * z, x**2 - y**2], -1)


def _sphere(count: int = 2000) -> np.ndarray:
    """``[count, 3]`` evenly spread unit vectors (Fibonacci)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.arange(count) * np.pi * (3 - 5**0.5)
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], -1)


def _vectors(rows: np.ndarray) -> tuple[Vector, ...]:
    return tuple((float(a), float(b), float(c)) for a, b, c in rows)


# -- Radiance pictures: no library among the dependencies reads them -------------------------------------------------
def _read_radiance(path: Path) -> np.ndarray:
    """``[H, W, 3]`` float32 of a Radiance RGBE file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The environment picture {path} cannot be read ({error.strerror}); check --hdri.") from error
    try:
        head, _, rest = data.partition(b"\n\n")
        if not head.startswith((b"#?RADIANCE", b"#?RGBE")) or b"32-bit_rle_rgbe" not in head:
            raise ValueError("it has no Radiance header")
        size, _, pixels = rest.partition(b"\n")
        minus_y, height, plus_x, width = size.split()
        if (minus_y, plus_x) != (b"-Y", b"+X"):
            raise ValueError("its rows are not stored from the top left")
        rgbe = _decode_rows(np.frombuffer(pixels, dtype=np.uint8), int(height), int(width))
    except (ValueError, IndexError) as error:
        raise UsageError(
            f"The environment picture {path} is no Radiance .hdr picture or is damaged ({error}); convert it to .hdr."
        ) from error
    scale = np.where(rgbe[..., 3:] > 0, np.ldexp(np.float32(1), rgbe[..., 3:].astype(np.int32) - 136), np.float32(0))
    return (rgbe[..., :3] + np.float32(0.5)) * scale


def _decode_rows(data: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[height, width, 4]`` uint8 from plain or run-length encoded rows."""
    if not (8 <= width < 32768 and data[0] == data[1] == 2 and int(data[2]) * 256 + int(data[3]) == width):
        return data[: height * width * 4].reshape(height, width, 4)
    picture = np.empty((height, 4, width), dtype=np.uint8)
    at = 0
    for row in picture:
        at += 4
        for channel in row:
            filled = 0
            while filled < width:
                count = int(data[at])
                if count > 128:
                    count -= 128
                    channel[filled : filled + count] = data[at + 1]
                    at += 2
                else:
                    channel[filled : filled + count] = data[at + 1 : at + 1 + count]
                    at += 1 + count
                filled += count
                if count == 0:
                    raise ValueError("an empty run")
    return picture.transpose(0, 2, 1)
