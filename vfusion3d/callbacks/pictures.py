"""Pictures and films of a run: files in its folder, and every logger that can show them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from PIL import Image

from vfusion3d.outputs import make_folder, output_errors, write_atomically
from vfusion3d.rendering.turntable import contact_sheet, write_video

_FILM_COLUMNS = 8
"""Frames of a film where only pictures can be shown."""


def save_picture(trainer: Trainer, folder: Path, name: str, picture: Image.Image, key: str) -> None:
    """Write ``folder/name.png`` and show it in the loggers.

    Args:
        trainer: The run, on the process of rank zero.
        folder: Made if missing.
        name: Of the file, without its suffix.
        picture: What to show.
        key: Under which loggers show it, at the step that the run is at.

    Raises:
        OutputError: if the file cannot be written.
    """
    data = io.BytesIO()
    picture.save(data, format="PNG")
    write_atomically(make_folder(folder) / f"{name}.png", data.getvalue())
    _show(trainer, picture, key)


def save_film(trainer: Trainer, folder: Path, name: str, frames: np.ndarray, key: str) -> None:
    """Write ``folder/name.mp4``; loggers show the film, or a row of its frames if they have only pictures.

    Args:
        trainer, folder, name, key: As in `save_picture`.
        frames: uint8, ``[F, H, W, 3]``.

    Raises:
        OutputError: if the file cannot be written.
    """
    path = make_folder(folder) / f"{name}.mp4"
    partial = path.with_name(f".{name}.partial")
    with output_errors(path):
        try:
            write_video(frames, partial)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    filmless = []
    for logger in trainer.loggers:
        if hasattr(logger, "log_video"):  # Weights & Biases
            logger.log_video(key, [str(path)], step=trainer.global_step)
        else:
            filmless.append(logger)
    chosen = np.linspace(0, len(frames), min(_FILM_COLUMNS, len(frames)), endpoint=False).astype(int)
    _show(trainer, contact_sheet(list(frames[chosen]), columns=len(chosen)), key, filmless)


def _show(trainer: Trainer, picture: Image.Image, key: str, loggers: list[Any] | None = None) -> None:
    """Hand a picture to those loggers that have a way to show it."""
    logger: Any
    for logger in trainer.loggers if loggers is None else loggers:
        if hasattr(logger, "log_image"):  # Weights & Biases
            logger.log_image(key, [picture], step=trainer.global_step)
        elif hasattr(logger.experiment, "add_image"):  # TensorBoard
            logger.experiment.add_image(key, np.asarray(picture), trainer.global_step, dataformats="HWC")
