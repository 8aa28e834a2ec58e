"""From a checkpoint of `VideoFineTuner` to what `save_video_model` writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vfusion3d.cameras import Rig
from vfusion3d.errors import CheckpointError
from vfusion3d.training.checkpoint_io import read_checkpoint
from vfusion3d.training.lineage import LICENCES, lineage
from vfusion3d.training.video import VIDEO
from vfusion3d.video.backbone import NO_LICENCE, VideoBackbone
from vfusion3d.video.registry import backbone_class, create_backbone, is_preset
from vfusion3d.video.trainable import choose_trainable, load_trainable_state, saved_name
from vfusion3d.video.trained import UNKNOWN, VideoModelConfig

_PREFIX = "backbone."  # of the video model's weights in its training module


def load_trained_video(
    path: str, averaged: bool = True, name: str | None = None, licence: str | None = None
) -> tuple[VideoBackbone, VideoModelConfig]:
    """The video model in a training checkpoint, without running anything that is in the file.

    Args:
        path: A ``.ckpt`` file of a run of `VideoFineTuner`.
        averaged: Take the running average of the weights where there is one (`EMAWeightAveraging`), else those of the
            last step.
        name, licence: What reports call the model, and the licence of its trained weights.

    Returns:
        The model in evaluation mode, and what is known of it.

    Raises:
        CheckpointError: if the file is none, is another module's, or does not hold all that is needed.
    """
    checkpoint = read_checkpoint(path)
    about: dict[str, Any] | None = checkpoint.get(VIDEO)
    if about is None:
        raise CheckpointError(f"The checkpoint {path} was not written by VideoFineTuner; give one of a video run.")
    if about.get("rig") is None or about.get("resolution") is None:
        raise CheckpointError(
            f"The checkpoint {path} does not say on which orbits it was trained; train on data that know their rig, as "
            "OrbitVideoDataModule."
        )
    # Where Lightning averages weights, `state_dict` holds the average and the last step's lie beside it.
    key = "state_dict" if averaged or "current_model_state" not in checkpoint else "current_model_state"
    state = {saved_name(k.removeprefix(_PREFIX)): v for k, v in checkpoint[key].items() if k.startswith(_PREFIX)}
    options = about.get("changes") or {}
    backbone = create_backbone(about["backbone"], about["source"], **options)
    choose_trainable(backbone, about["train"], about["rank"])
    from_preset = is_preset(about["backbone"], about["source"])
    if from_preset and not all(parameter.requires_grad for parameter in backbone.parameters()):
        raise CheckpointError(
            f"The checkpoint {path} was trained from the random weights of the preset {about['source']!r}, but holds "
            f"only what was trained of them ({about['train']}); train `all` of a preset, or let "
            "the callback ExportModel write the model when the run ends."
        )
    try:
        load_trainable_state(backbone, state)
    except CheckpointError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be exported: {error}") from error
    progress = {"steps": checkpoint.get("global_step"), "samples": checkpoint.get("samples_seen")}
    config = video_config(about, checkpoint.get(LICENCES), **progress, name=name, licence=licence)
    return backbone.eval(), config


def video_config(
    about: Mapping[str, Any],
    licences: Iterable[str] | None,
    *,
    steps: int | None,
    samples: int | None,
    name: str | None = None,
    licence: str | None = None,
) -> VideoModelConfig:
    """What is known of a trained video model.

    Args:
        about: What a checkpoint says under `VIDEO`.
        licences: As in `lineage`.
        steps, samples: That it was trained on.
        name, licence: What reports call it, and the licence of its trained weights.
    """
    return VideoModelConfig(
        backbone=about["backbone"],
        source=about["source"],
        train=about["train"],
        rig=Rig(**about["rig"]),
        size=int(about["resolution"]),
        rank=about["rank"],
        options=about.get("changes") or {},
        name=name or f"{about['backbone']}-orbit",
        licence=licence or UNKNOWN,
        lineage=video_lineage(about, licences),
        steps=steps,
        samples=samples,
        version=str(about.get("version", UNKNOWN)),
    )


def video_lineage(about: Mapping[str, Any], licences: Iterable[str] | None) -> tuple[str, ...]:
    """The `lineage` of a video model, and so of what it generates.

    Args:
        about: What a checkpoint says under `VIDEO`.
        licences: As in `lineage`.
    """
    source = about["source"]
    if is_preset(about["backbone"], source):
        start = NO_LICENCE
    else:  # checkpoints of older versions do not tell
        start = f"{source}: {about.get('licence') or backbone_class(about['backbone']).licence}"
    return lineage([start, *about.get("lineage", ())], licences)
