"""From a training checkpoint to a model folder: configuration, weights and card."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from vfusion3d.errors import CheckpointError
from vfusion3d.models import ReconstructorConfig, TriplaneReconstructor
from vfusion3d.models.checkpoints import WEIGHTS
from vfusion3d.outputs import carry_over, result_folder
from vfusion3d.training.checkpoint_io import read_checkpoint
from vfusion3d.training.lineage import LICENCES, reconstructor_lineage
from vfusion3d.training.model_card import TrainingFacts, model_card

RECIPE = "vfusion3d_recipe"
"""Key of a checkpoint: the recipe's data and schedules as JSON."""
MODEL = "vfusion3d_model"
"""Key of a checkpoint: the model's configuration and the version of vfusion3d, as plain data."""
CARD = "README.md"
_PREFIX = "model."  # of the reconstructor's weights in its training module


def export_model(
    model: TriplaneReconstructor,
    folder: str | Path,
    facts: TrainingFacts,
    *,
    half: bool = False,
    name: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``README.md``, all or nothing.

    Args:
        model: Its configuration gets the name and the licence.
        folder: What `TriplaneReconstructor.from_pretrained` and ``vfusion3d reconstruct --model`` will take.
        facts: For the card.
        half: Store float16.
        name, license: Written into the configuration and the card; the configuration's own if None.
        overwrite: Replace an earlier export; other files in its folder stay.

    Raises:
        OutputError: if the folder exists and may not be replaced, or cannot be written.
    """
    given = {"name": name, "license": license, "lineage": facts.lineage}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    model.config = dataclasses.replace(model.config, **changes)
    folder = Path(folder)
    with result_folder(folder, overwrite, marker=WEIGHTS) as partial:
        model.save_pretrained(partial, dtype=torch.float16 if half else torch.float32)
        (partial / CARD).write_text(model_card(model, facts), encoding="utf-8")
        carry_over(folder, partial)


def load_trained(path: str, averaged: bool = True) -> tuple[TriplaneReconstructor, TrainingFacts]:
    """The model in a training checkpoint, without running anything that is in the file.

    Args:
        path: A ``.ckpt`` file of a run of `ReconstructorTraining`.
        averaged: Take the running average of the weights where there is one (`EMAWeightAveraging`), else those of the
            last step.

    Raises:
        CheckpointError: if the file is none, is another module's, or is incomplete.
    """
    checkpoint = read_checkpoint(path)
    settings = checkpoint.get("hyper_parameters", {})
    weights: dict[str, torch.Tensor] = checkpoint["state_dict"]
    if "architecture" not in settings or not any(key.startswith(_PREFIX) for key in weights):
        raise CheckpointError(
            f"The checkpoint {path} was written by another module than ReconstructorTraining and VideoFineTuner, which "
            "alone are exported; give a .ckpt file of theirs."
        )
    # Where Lightning averages weights, `state_dict` holds the average and the last step's lie beside it.
    has_average = "current_model_state" in checkpoint
    if has_average and not averaged:
        weights = checkpoint["current_model_state"]
    about = checkpoint.get(MODEL, {})
    config = _config(path, about.get("config"), settings)
    with torch.device("meta"):  # no time for random weights that the file replaces
        model = TriplaneReconstructor(config)
    state = {key.removeprefix(_PREFIX): value for key, value in weights.items() if key.startswith(_PREFIX)}
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    wrong = sorted(
        key for key in wanted.keys() | state.keys() if key not in state or wanted.get(key) != state[key].shape
    )
    if wrong:
        raise CheckpointError(
            f"The checkpoint {path} does not hold the weights of its own configuration ({len(wrong)} missing, "
            f"unexpected or of another shape, for example {wrong[0]}); give the file as the run wrote it."
        )
    model.load_state_dict(state, assign=True)
    recipe = checkpoint.get(RECIPE)
    facts = TrainingFacts(
        settings=settings,
        recipe=None if recipe is None else json.loads(recipe),
        samples=checkpoint.get("samples_seen"),
        steps=checkpoint.get("global_step"),
        averaged=has_average and averaged,
        version=about.get("version"),
        lineage=reconstructor_lineage(settings, config, checkpoint.get(LICENCES)),
    )
    return model.eval(), facts


def _config(path: str, saved: dict[str, Any] | None, settings: dict[str, Any]) -> ReconstructorConfig:
    """The model's configuration; checkpoints of older versions hold only how the module was built.

    Raises:
        CheckpointError: if it cannot be told.
    """
    if saved is not None:
        return ReconstructorConfig.from_dict(saved)
    weights = settings.get("weights")
    if weights is not None:
        return TriplaneReconstructor.from_pretrained(weights).config
    try:
        return ReconstructorConfig.preset(settings["architecture"], **(settings.get("changes") or {}))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {path} was trained by another version of vfusion3d: {error}") from error
