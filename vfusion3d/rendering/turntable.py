"""Films and contact sheets of an object that turns."""

from __future__ import annotations

import errno
import math
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from PIL import Image, ImageOps

from vfusion3d.cameras import Cameras, fit_radius, on_sphere, pinhole
from vfusion3d.errors import OutputError

TURN_ELEVATION = 15.0  # degrees
SWING = 20.0  # degrees
FRAMES = 24
FRAMES_PER_SECOND = 12

Progress = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""


TurnPath = Literal["circle", "swing"]


class Renderable(Protocol):
    """An object that renders views of itself, such as `Triplanes` of one object."""

    def render(self, cameras: Cameras, height: int, width: int, *, skip_empty: bool) -> Any:
        """Views from cameras ``[1, V]``; the result's ``rgb`` is ``[1, V, 3, height, width]`` in [0, 1] on white."""


def render_views(scene: Renderable, cameras: Cameras, size: int, progress: Progress | None = None) -> np.ndarray:
    """Render views one by one, without looking into empty space.

    Args:
        scene: The object.
        cameras: Cameras of shape ``[V]``, on the object's device.
        size: Pixels a side.
        progress: Told after each view.

    Returns:
        Views on white, uint8, ``[V, size, size, 3]``.
    """
    views = []
    with torch.inference_mode():
        for number in range(len(cameras)):
            rgb = scene.render(cameras[number : number + 1].unsqueeze(0), size, size, skip_empty=True).rgb[0, 0]
            views.append((rgb.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy())
            if progress is not None:
                progress(number + 1, len(cameras))
    return np.stack(views)


def turntable_cameras(
    frames: int = FRAMES, elevation: float = TURN_ELEVATION, fov: float = 40.0, path: TurnPath = "circle"
) -> Cameras:
    """A full turn around the object, starting at its front, counter-clockwise seen from above.

    Args:
        frames: Number of cameras.
        elevation: Degrees above the horizon.
        fov: Field of view in degrees; the unit sphere fits the frame.
        path: ``circle`` stays at the elevation; ``swing`` rises `SWING` degrees above it and falls as far below.

    Returns:
        Cameras of shape ``[frames]``.

    Raises:
        ValueError: if the path is unknown.
    """
    if path not in get_args(TurnPath):
        raise ValueError(f"Argument `path` must be one of {get_args(TurnPath)}, but got {path!r}.")
    azimuth = 2 * math.pi * torch.arange(frames, dtype=torch.float64) / frames
    swing = SWING * torch.sin(azimuth) if path == "swing" else torch.zeros_like(azimuth)
    height = torch.deg2rad((elevation + swing).clamp(-90, 90))
    return on_sphere(azimuth, height, fit_radius(fov), pinhole(fov)).to(torch.float32)


def write_video(frames: np.ndarray, path: str | Path, frames_per_second: int = FRAMES_PER_SECOND) -> None:
    """Encode frames as H.264 in MP4 (yuv420p, which every player shows).

    Args:
        frames: uint8, ``[F, H, W, 3]``; an odd size is extended by repeating the last row or column.
        path: The file; it is complete only when this returns.
        frames_per_second: Speed of the film.

    Raises:
        OSError: if the disk is full (errno ``ENOSPC``).
        OutputError: if the encoder fails for another reason.
    """
    import imageio_ffmpeg

    _, height, width, _ = frames.shape
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{frames.shape[2]}x{frames.shape[1]}"),
        *("-r", str(frames_per_second), "-i", "-"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18"),
        *("-movflags", "+faststart", "-f", "mp4", str(path)),
    ]
    done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        if "No space left" in words:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        last = words.splitlines()[-1] if words else f"exit status {done.returncode}"
        raise OutputError(
            f"Video '{Path(path).name}' could not be encoded ({last.rstrip('.')}); leave out the format mp4."
        )


def on_checkerboard(picture: Image.Image, size: int) -> Image.Image:
    """An RGBA picture fitted into a square of a checkerboard, which shows where it is transparent; opaque RGBA."""
    rows, columns = np.indices((size, size)) // 8
    board = Image.fromarray(np.where((rows + columns) % 2, 205, 235).astype(np.uint8)).convert("RGBA")
    fitted = ImageOps.contain(picture.convert("RGBA"), (size, size), Image.Resampling.BOX)
    board.alpha_composite(fitted, ((size - fitted.width) // 2, (size - fitted.height) // 2))
    return board


def contact_sheet(images: Sequence[np.ndarray], columns: int, gap: int = 4) -> Image.Image:
    """Images of one size in a grid on white.

    Args:
        images: uint8, each ``[H, W, 3]``.
        columns: Images a row.
        gap: Pixels between images.
    """
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        sheet.paste(Image.fromarray(image), (column * (width + gap), row * (height + gap)))
    return sheet
