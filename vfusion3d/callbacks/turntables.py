"""Films of objects that turn."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vfusion3d.alpha import over_white
from vfusion3d.callbacks.pictures import save_film
from vfusion3d.callbacks.progress import output_folder
from vfusion3d.cameras import Cameras, fov_from_focal
from vfusion3d.data.batches import MultiViewBatch, batch_cameras
from vfusion3d.models import Rendering
from vfusion3d.rendering.turntable import FRAMES, turntable_cameras


class Turntables(Callback):
    """Films the first objects of the validation set, each beside its input: ``turntables_<step>.mp4``.

    Loggers that can show films get them too, and a row of frames those that show only pictures. Frames have the size
    of the validation pictures and come from the module's predict step, so that every strategy and precision, and
    averaged weights, apply; each process films objects of its own, the first one's are written.

    Args:
        dirpath: Folder of the films; the logger's folder by default.
        objects: Objects filmed, side by side.
        frames: Of a full turn.
    """

    def __init__(self, dirpath: str | None = None, objects: int = 2, frames: int = FRAMES) -> None:
        for name, value in (("objects", objects), ("frames", frames)):
            if value < 1:
                raise ValueError(f"Argument `{name}` must be at least 1, but got {value}.")
        self.dirpath, self.objects, self.frames = dirpath, objects, frames
        self._films: list[torch.Tensor] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Film the first objects, while averaged weights are in the model."""
        if trainer.sanity_checking:
            return
        for index in range(min(self.objects - len(self._films), len(batch["images"]))):
            asked = self._turn(batch, index)
            rendered: Rendering = trainer.strategy.predict_step(asked, batch_idx)
            shown = over_white(asked["images"][0, :1]).expand(self.frames, -1, -1, -1)
            film = torch.cat([shown, rendered.rgb[0, 1:]], -1)
            self._films.append(film.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the film."""
        films, self._films = self._films, []
        folder = output_folder(trainer, self.dirpath)
        if not films or not trainer.is_global_zero:
            return
        name = f"turntables_{trainer.global_step:07d}"
        save_film(trainer, folder, name, torch.cat(films, 2).numpy(), "val/turntables")

    def _turn(self, batch: MultiViewBatch, index: int) -> MultiViewBatch:
        """The input of one object, and the cameras of a turn around it with the input's field of view."""
        images, source = batch["images"][index, :1], batch_cameras(batch)[index, :1]
        turn = turntable_cameras(self.frames, fov=fov_from_focal(float(source.intrinsics[0, 0])))
        cameras = Cameras.cat([source, turn.to(source.poses)])
        return {
            "images": torch.cat([images, images.new_zeros(self.frames, *images.shape[1:])])[None],
            "poses": cameras.poses[None],
            "intrinsics": cameras.intrinsics[None],
            "sample": batch["sample"][index : index + 1],
            "epoch": batch["epoch"][index : index + 1],
        }
