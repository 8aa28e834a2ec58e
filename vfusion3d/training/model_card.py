"""A model's card: what is known about how its weights came to be, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from vfusion3d.models import TriplaneReconstructor
from vfusion3d.video.card import HUB_LICENCES

UNKNOWN = "unknown"
_UNITS = {"psnr": " dB", "foreground_psnr": " dB"}


@dataclass(frozen=True)
class TrainingFacts:
    """What a run knows about itself; None where it does not."""

    settings: dict[str, Any] | None = None
    """Arguments of `ReconstructorTraining`."""
    recipe: dict[str, Any] | None = None
    """Keys ``data``, ``resolution``, ``learning_rate`` and ``camera_noise`` of the recipe."""
    samples: int | None = None
    """Training samples seen by all processes."""
    steps: int | None = None
    """Optimiser steps."""
    averaged: bool | None = None
    """Whether the weights are a running average."""
    figures: dict[str, float] | None = None
    """The last validation's, by name (``val/psnr`` ...)."""
    version: str | None = None
    """Of vfusion3d, when the weights were saved."""
    lineage: tuple[str, ...] | None = None
    """One sentence for each licence that the weights come from (`vfusion3d.training.lineage`)."""


def _start(settings: dict[str, Any]) -> str:
    """What the weights were before training."""
    if settings.get("weights"):
        return str(settings["weights"])
    encoder = settings.get("encoder_weights")
    return f"random weights, the encoder from {encoder}" if encoder else "random weights"


def model_card(model: TriplaneReconstructor, facts: TrainingFacts) -> str:
    """The card as Markdown with YAML front matter, as the Hugging Face hub reads it.

    What the facts do not say is called unknown.

    Example:
        >>> card = model_card(TriplaneReconstructor("tiny"), TrainingFacts(samples=32))
        >>> "license: apache-2.0" in card.splitlines()
        True
        >>> "| training samples seen | 32 |" in card and "| steps | unknown |" in card
        True
    """
    config = model.config
    license_ = config.license.lower()
    named = license_ in HUB_LICENCES
    header = ModelCardData(
        license=license_ if named else "other",
        license_name=None if named else config.license,
        library_name="vfusion3d",
        pipeline_tag="image-to-3d",
        tags=["image-to-3d", "triplane", "nerf", "vfusion3d"],
    )
    settings, recipe = facts.settings or {}, facts.recipe or {}
    averaged = {None: UNKNOWN, True: "a running average (EMA)", False: "of the last step"}[facts.averaged]
    rows = {
        "vfusion3d": facts.version or UNKNOWN,
        "started from": UNKNOWN if facts.settings is None else _start(settings),
        "training samples seen": UNKNOWN if facts.samples is None else f"{facts.samples}",
        "steps": UNKNOWN if facts.steps is None else f"{facts.steps}",
        "weights": averaged,
    }
    parts = {
        "data": recipe.get("data"),
        "schedules": {key: recipe[key] for key in recipe if key != "data"} or None,
        "losses": settings.get("losses"),
        "optimizer": settings.get("optimizer"),
        "patches": settings.get("patches"),
        "inputs": settings.get("inputs"),
    }
    known = {key: value for key, value in parts.items() if value is not None}
    missing = [key for key, value in parts.items() if value is None]
    recorded = f"```yaml\n{yaml.safe_dump(known, sort_keys=False)}```\n" if known else ""
    if missing:
        recorded += f"\n{', '.join(missing).capitalize()}: {UNKNOWN}.\n"
    figures = "\n".join(
        f"| {name} | {value:.4g}{_UNITS.get(name.rpartition('/')[2], '')} |"
        for name, value in (facts.figures or {}).items()
    )
    lineage = "".join(f"- {sentence}\n" for sentence in config.lineage) or f"{UNKNOWN}.\n"
    measured = f"The last validation while training:\n\n| | |\n|---|---|\n{figures}\n" if figures else f"{UNKNOWN}.\n"
    return f"""---
{header.to_yaml()}
---

# {config.name}

One picture in, triplanes out: a `TriplaneReconstructor` of {model.parameter_count() / 1e6:.1f} M weights, exported from
a training run of [vfusion3d](https://pypi.org/project/vfusion3d/). Licence of the weights: {config.license}.

## Use

    vfusion3d reconstruct PICTURE.png --model FOLDER --output results

```python
from vfusion3d import ImageTo3DPipeline

pipeline = ImageTo3DPipeline.from_pretrained("FOLDER")
```

FOLDER is the folder of this file. Input pictures have {config.image_size} pixels a side, renders
{config.render_size}.

## Training

| | |
|---|---|
{"".join(f"| {key} | {value} |{chr(10)}" for key, value in rows.items())}
{recorded}
## Figures

{measured}
## What the weights come from

{lineage}
## Not recorded

Which objects were kept out of training, and how the model does on pictures unlike them: {UNKNOWN}.
"""
