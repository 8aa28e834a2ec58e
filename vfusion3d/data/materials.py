"""Colours, patterns and lights of procedural objects."""

from __future__ import annotations

import colorsys
import math
from random import Random

import numpy as np

from vfusion3d.data.parts import Array, Lighting, Vector
from vfusion3d.data.raycast import PATTERNS


def _hsv(hue: float, saturation: float, value: float) -> Vector:
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))


def palette(rng: Random) -> list[Vector]:
    """Five colours that go together: body, second, accent, dark, light."""
    hue = rng.random()
    scheme = rng.choice(("vivid", "vivid", "pastel", "grey", "wood", "earth", "dark", "white"))
    if scheme == "wood":
        body = _hsv(rng.uniform(0.04, 0.11), rng.uniform(0.35, 0.75), rng.uniform(0.3, 0.8))
        second = _hsv(rng.uniform(0.04, 0.11), rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.9))
    elif scheme == "earth":
        body = _hsv(rng.uniform(0.02, 0.3), rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.75))
        second = _hsv(rng.uniform(0.02, 0.45), rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.85))
    elif scheme == "grey":
        body = _hsv(hue, rng.uniform(0, 0.08), rng.uniform(0.25, 0.85))
        second = _hsv(hue, rng.uniform(0, 0.3), rng.uniform(0.15, 0.9))
    elif scheme == "dark":
        body = _hsv(hue, rng.uniform(0, 0.6), rng.uniform(0.1, 0.3))
        second = _hsv(hue + rng.uniform(-0.1, 0.1), rng.uniform(0, 0.8), rng.uniform(0.1, 0.7))
    elif scheme == "white":
        body = _hsv(hue, rng.uniform(0, 0.08), rng.uniform(0.85, 1.0))
        second = _hsv(hue, rng.uniform(0.2, 0.9), rng.uniform(0.3, 0.95))
    elif scheme == "pastel":
        body = _hsv(hue, rng.uniform(0.15, 0.45), rng.uniform(0.75, 1.0))
        second = _hsv(hue + rng.choice((0.08, -0.08, 0.5)), rng.uniform(0.15, 0.5), rng.uniform(0.7, 1.0))
    else:
        body = _hsv(hue, rng.uniform(0.55, 1.0), rng.uniform(0.5, 1.0))
        second = _hsv(hue + rng.choice((0.08, -0.08, 0.33, 0.5)), rng.uniform(0.4, 1.0), rng.uniform(0.4, 1.0))
    accent = _hsv(hue + rng.uniform(0.25, 0.75), rng.uniform(0.4, 1.0), rng.uniform(0.5, 1.0))
    dark = _hsv(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.03, 0.22))
    light = _hsv(rng.random(), rng.uniform(0, 0.2), rng.uniform(0.8, 1.0))
    return [body, second, accent, dark, light]


def _wave_vector(rng: Random, low: float, high: float) -> Array:
    """A direction, often along an axis, times a frequency in cycles per world unit."""
    if rng.random() < 0.6:
        direction = np.zeros(3)
        direction[rng.choice((0, 1, 2, 2))] = 1.0
    else:
        direction = np.array([rng.gauss(0, 1) for _ in range(3)])
        direction /= np.linalg.norm(direction) + 1e-9
    return direction * rng.uniform(low, high)


def surface(rng: Random, first: Vector, second: Vector, third: Vector, plain: float = 0.5) -> Array:
    """One row of `ProceduralObjects.surfaces`: a pattern of two or three colours.

    Args:
        rng: Source of randomness.
        first, second, third: Colours.
        plain: Chance of no pattern.
    """
    pattern = "plain" if rng.random() < plain else rng.choice(PATTERNS[1:])
    low, high = {"stripes": (1.0, 4.5), "checks": (1.2, 4.0), "ramp": (0.5, 1.2), "dots": (1.5, 4.0)}.get(
        pattern, (0.6, 2.5)
    )
    wave, other = _wave_vector(rng, low, high), _wave_vector(rng, low, high)
    phase = rng.random()
    if pattern in ("checks", "dots"):  # two different axes
        axes = rng.sample(range(3), 2)
        wave, other = (np.eye(3)[k] * np.linalg.norm(wave) for k in axes)
    if pattern == "ramp":
        wave = np.array([0.0, 0.0, np.linalg.norm(wave)]) if rng.random() < 0.7 else wave
        phase = rng.uniform(0.2, 0.8)
    if pattern == "noise" or pattern == "plain":
        wave, other = (np.array([rng.gauss(0, 1) for _ in range(3)]) * rng.uniform(0.5, 1.6) for _ in range(2))
    soft = {"stripes": 2.0, "ramp": 1.0, "noise": 2.0, "dots": 4.0}.get(pattern, 40.0)
    sharpness = 40.0 if rng.random() < 0.6 else soft
    grain = rng.choice((0.0, 0.0, rng.uniform(0.0, 0.35)))
    weights = [float(name == pattern) for name in PATTERNS]
    return np.array([*first, *second, *third, *wave, *other, phase, sharpness, grain, *weights])


def surfaces(rng: Random, colours: list[Vector]) -> list[Array]:
    """Surfaces of an object: body, second, accent, dark, light."""
    body, second, accent, dark, light = colours
    return [
        surface(rng, body, second, rng.choice((accent, light, dark)), plain=0.4),
        surface(rng, second, body, rng.choice((accent, light)), plain=0.65),
        surface(rng, accent, light, second, plain=0.8),
        surface(rng, dark, accent, second, plain=0.95),
        surface(rng, light, body, second, plain=0.9),
    ]


def lighting(rng: Random) -> Lighting:
    """One to three directional lights over an ambient one, or ambient light alone; about 1 where it is brightest."""
    tint = [rng.uniform(0.93, 1.0) for _ in range(3)]
    if rng.random() < 0.15:
        return Lighting((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), [], [])
    ambient = rng.uniform(0.35, 0.75)
    below = ambient * rng.uniform(0.55, 1.0)
    count = rng.choice((1, 2, 2, 3))
    shares = [rng.uniform(0.4, 1.0) for _ in range(count)]
    budget = rng.uniform(0.9, 1.25) - ambient
    directions: list[Vector] = []
    for _ in range(count):
        azimuth, height = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 1.0)
        flat = math.sqrt(1 - height * height)
        directions.append((flat * math.cos(azimuth), flat * math.sin(azimuth), height))
    scale = [budget * share / max(shares) for share in shares]
    colours: list[Vector] = [(tint[0] * s, tint[1] * s, tint[2] * s) for s in scale]
    return Lighting((ambient, ambient, ambient), (below, below, below), directions, colours)
