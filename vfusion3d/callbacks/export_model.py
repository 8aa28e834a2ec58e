"""The trained model as a folder that `vfusion3d reconstruct --model` or `vfusion3d orbit --model` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule

from vfusion3d import __version__
from vfusion3d.callbacks.progress import output_folder, samples_seen
from vfusion3d.models import TriplaneReconstructor
from vfusion3d.training.export import export_model
from vfusion3d.training.lineage import reconstructor_lineage
from vfusion3d.training.model_card import TrainingFacts


class ExportModel(Callback):
    """Writes configuration, weights and model card when training ends (after weight averaging): of a reconstructor, or
    what was trained of a video model.

    Args:
        dirpath: The folder; ``model`` in the logger's folder by default. An earlier export there is replaced.
        half: Store float16.
        name: Name written into the configuration.
        license: Licence written into the configuration.
    """

    def __init__(
        self, dirpath: str | None = None, half: bool = False, name: str | None = None, license: str | None = None
    ) -> None:
        self.dirpath, self.half, self.name, self.license = dirpath, half, name, license

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the model, unless this was a `fast_dev_run`.

        Raises:
            OutputError: if the folder holds something else or cannot be written.
        """
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = output_folder(trainer, self.dirpath, "model")
        if hasattr(pl_module, "backbone"):
            self._export_video(trainer, pl_module, folder)
            return
        state = _gathered(pl_module.model)
        if not trainer.is_global_zero:
            return
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        facts = TrainingFacts(
            settings=dict(pl_module.hparams),
            # What the command line keeps for checkpoints; runs in Python have no recipe.
            recipe=next((callback.recipe for callback in callbacks if hasattr(callback, "recipe")), None),
            samples=samples_seen(pl_module),
            steps=trainer.global_step,
            averaged=any(isinstance(callback, WeightAveraging) for callback in callbacks),
            figures={key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")},
            version=__version__,
            lineage=reconstructor_lineage(pl_module.hparams, pl_module.model.config, pl_module.licences),
        )
        export_model(
            pl_module.model if state is None else _with_weights(pl_module.model, state),
            folder,
            facts,
            half=self.half,
            name=self.name,
            license=self.license,
            overwrite=True,
        )

    def _export_video(self, trainer: Trainer, module: Any, folder: Path) -> None:
        from vfusion3d.training.export_video import video_config
        from vfusion3d.video.trained import save_video_model

        if not trainer.is_global_zero:
            return
        if module.about["rig"] is None:
            rank_zero_warn("No model was exported: the data do not say on what rig their orbits lie.")
            return
        progress = {"steps": trainer.global_step, "samples": samples_seen(module)}
        config = video_config(module.about, module.licences, **progress, name=self.name, licence=self.license)
        save_video_model(module.backbone, folder, config, half=self.half, overwrite=True)


def _gathered(model: TriplaneReconstructor) -> dict[str, Any] | None:
    """The weights of a model whose shards lie in all processes, on the first of them; None if it is whole anyway."""
    if not isinstance(model, FSDPModule):
        return None
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def _with_weights(model: TriplaneReconstructor, state: dict[str, Any]) -> TriplaneReconstructor:
    """A model like the given one that has these weights."""
    with torch.device("meta"):
        whole = TriplaneReconstructor(model.config)
    whole.load_state_dict(state, assign=True)
    return whole
