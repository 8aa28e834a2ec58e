"""Orbits without a renderer: a disc on the ground, seen from each elevation as an ellipse; bad ones change colour."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vfusion3d.cameras import MAX_ELEVATION, Rig
from vfusion3d.data.shard_writer import Item, ShardWriter

RIG = Rig(2.9, 40.0)
SIZE = 32


def frames(elevation: float, seed: int, good: bool = True) -> list[bytes]:
    """Sixteen PNG files with alpha."""
    random = np.random.default_rng(seed)
    colour, radius = random.integers(40, 200, 3), random.uniform(10, 14)
    files = []
    for k in range(RIG.frames):
        picture = Image.new("RGBA", (SIZE, SIZE))
        high = radius * (0.15 + math.sin(elevation))
        shown = colour if good else random.integers(0, 255, 3)
        box = (SIZE / 2 - radius, SIZE / 2 - high, SIZE / 2 + radius, SIZE / 2 + high)
        ImageDraw.Draw(picture).ellipse(box, fill=(*(int(value) for value in shown), 255))
        angle = 2 * math.pi * k / RIG.frames
        x, y = SIZE / 2 + 0.8 * radius * math.cos(angle), SIZE / 2 + 0.8 * high * math.sin(angle)
        ImageDraw.Draw(picture).ellipse((x - 2, y - 2, x + 2, y + 2), fill=(0, 0, 0, 255))
        file = io.BytesIO()
        picture.save(file, "PNG")
        files.append(file.getvalue())
    return files


def shard_set(folder: Path, count: int) -> dict[str, bool]:
    """A shard set with prompts and elevations; whether each of its videos is good."""
    elevations = np.random.default_rng(0).random(count) * MAX_ELEVATION
    good = {f"disc_{k:03d}": k % 3 != 0 for k in range(count)}
    ShardWriter(folder, RIG).write(
        Item(
            key,
            frames(elevations[k], k, good[key]),
            (SIZE, SIZE),
            columns={"elevation": elevations[k], "prompt": "a red car" if k % 2 else "a plate"},
        )
        for k, key in enumerate(good)
    )
    return good
