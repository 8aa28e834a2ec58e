"""The user study; turntables here are squares of one colour that a bar crosses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vfusion3d.rendering.turntable import write_video

NAMES = ("cup", "owl", "red car", "tea.pot")
COLOURS = {"ours": (200, 30, 30), "theirs": (30, 30, 200)}


def write_turntable(path: Path, colour: tuple[int, int, int], frames: int = 6, size: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    video = np.full((frames, size, size, 3), colour, np.uint8)
    for number, frame in enumerate(video):
        frame[:, number * size // frames : (number + 1) * size // frames] = 255
    write_video(video, path)


def write_study(folder: Path, names: tuple[str, ...] = NAMES) -> tuple[Path, Path, Path]:
    """Folders of A's and B's videos and of the pictures; each file differs from the others."""
    for method, colour in COLOURS.items():
        for number, name in enumerate(names):
            write_turntable(folder / method / f"{name}.mp4", (colour[0], 20 * number, colour[2]))
    (folder / "pictures").mkdir()
    for number, name in enumerate(names):
        Image.new("RGB", (24, 24), (0, 200, 20 * number)).save(folder / "pictures" / f"{name}.png")
    return folder / "ours", folder / "theirs", folder / "pictures"
