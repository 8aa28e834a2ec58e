"""The reconstructor: pre-trained on generated orbits, fine-tuned on renders, scored on objects it never saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import over_white, rgb_pixels
from vfusion3d.cameras import Cameras
from vfusion3d.commands.nano.chain import Chain, Outcome, Progress
from vfusion3d.commands.nano.filtering import EVERYTHING, SHARDS
from vfusion3d.commands.nano.objects import HELD_OUT, RENDERED
from vfusion3d.commands.nano.settings import FINETUNE_RECIPE, PRETRAIN_RECIPE, merged
from vfusion3d.commands.nano.training import MODEL, PICTURES, fit
from vfusion3d.data.shards import ShardSet
from vfusion3d.metrics import novel_view_figures
from vfusion3d.models import TriplaneReconstructor
from vfusion3d.training.patches import recentre_inputs

_BORDER = 0.1
_SHOWN = 4
_FIGURES = {"psnr": "PSNR, dB", "foreground_psnr": "foreground PSNR, dB", "iou": "mask IoU"}


def make_pretrain(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """On the shards, in stages of resolution, with the paper's strategies."""
    root = {"data": {"init_args": {"root": str(chain.folder("shards") / SHARDS)}}}
    return _outcome(fit(PRETRAIN_RECIPE, merged(settings["changes"], root), folder, progress), folder)


def make_unfiltered(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """As `make_pretrain`, on as many orbits of all."""
    shards = chain.folder("shards")
    count = len(ShardSet(str(shards / SHARDS)))
    data = {"data": {"init_args": {"root": str(shards / EVERYTHING), "limit": count}}}
    return _outcome(fit(PRETRAIN_RECIPE, merged(settings["changes"], data), folder, progress), folder)


def make_finetune(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """On renders with true cameras, from the pre-trained weights."""
    places = {
        "model": {"init_args": {"weights": str(chain.folder("pretrain") / MODEL)}},
        "data": {"init_args": {"root": str(chain.folder("objects") / RENDERED)}},
    }
    return _outcome(fit(FINETUNE_RECIPE, merged(settings["changes"], places), folder, progress), folder)


def _outcome(trainer: Trainer, folder: Path) -> Outcome:
    logged = {name.removeprefix("val/"): float(value) for name, value in trainer.callback_metrics.items()}
    figures: dict[str, float] = {"steps": trainer.global_step}
    figures |= {f"validation {text}": logged[name] for name, text in _FIGURES.items() if name in logged}
    sheets = sorted((folder / PICTURES).glob("*.png"))[-1:]
    caption = "Validation objects: target, render, opacity and depth below each other; the input is framed."
    return Outcome(figures, [], [[f"{PICTURES}/{sheet.name}", caption] for sheet in sheets])


def make_benchmark(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """Views other than the input of held-out objects, beside what any method has to beat."""
    shards = ShardSet(str(chain.folder("objects") / HELD_OUT))
    trained = {
        "trained on as many unfiltered orbits": TriplaneReconstructor.from_pretrained(
            chain.folder("unfiltered") / MODEL
        ),
        "trained on orbits alone": TriplaneReconstructor.from_pretrained(chain.folder("pretrain") / MODEL),
        "trained on orbits, then on 3D": TriplaneReconstructor.from_pretrained(chain.folder("finetune") / MODEL),
    }
    torch.manual_seed(0)
    models = {"untrained": TriplaneReconstructor(trained["trained on orbits alone"].config).eval(), **trained}
    rows: dict[str, list[dict[str, float]]] = {}
    strips = []
    for item in range(len(shards)):
        figures, strip = _score(models, shards, item, settings["views"])
        for method, values in figures.items():
            rows.setdefault(method, []).append(values)
        strips.append(strip)
        progress((item + 1) / len(shards))
    means = {
        name: {key: float(np.nanmean([row[key] for row in part])) for key in _FIGURES} for name, part in rows.items()
    }
    picture = torch.cat(strips[:_SHOWN], -2)
    Image.fromarray(rgb_pixels(picture)).save(folder / "held_out.png")
    table = {
        "title": f"{len(shards)} held-out objects, {settings['views']} views each that were not the input",
        "header": ["method", *_FIGURES.values()],
        "rows": [[name, *values.values()] for name, values in means.items()],
    }
    caption = "Held-out objects: the input and true views; below, renders of the last model."
    last = means["trained on orbits, then on 3D"]["psnr"]
    summary = {"PSNR, dB": last, "untrained": means["untrained"]["psnr"], "all white": means["all white"]["psnr"]}
    return Outcome(summary, [table], [["held_out.png", caption]])


@torch.no_grad()
def _score(
    models: Mapping[str, TriplaneReconstructor], shards: ShardSet, item: int, views: int
) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Figures of all methods on an object, and a strip of pictures: truth above the last model's renders."""
    count = int(shards.counts[item])
    chosen = [0, *sorted({1 + k * (count - 1) // views for k in range(views)})]
    pixels = torch.from_numpy(np.stack(shards.pixels(item, chosen))).permute(0, 3, 1, 2).float() / 255
    cameras, size = shards.cameras(item)[torch.tensor(chosen)], pixels.shape[-1]
    truth, mask = over_white(pixels), pixels[:, 3:]
    results = {name: _reconstruct(model, pixels[:1], cameras, size) for name, model in models.items()}
    shown = next(reversed(results.values()))[0]
    results["input pasted"] = truth[:1].expand_as(truth[1:]), mask[:1].expand_as(mask[1:])
    results["all white"] = torch.ones_like(truth[1:]), torch.zeros_like(mask[1:])
    figures = {
        name: {key: float(value) for key, value in novel_view_figures(*both, truth[1:], mask[1:]).items()}
        for name, both in results.items()
    }
    below = torch.cat([torch.ones_like(truth[:1]), shown])
    return figures, torch.cat([torch.cat(list(part), -1) for part in (truth, below)], -2)


def _reconstruct(model: TriplaneReconstructor, first: Tensor, cameras: Cameras, size: int) -> tuple[Tensor, Tensor]:
    """Renders and opacities of all views but the first, which is the input."""
    images, camera = recentre_inputs(first, cameras[:1], model.config.image_size, torch.full((1,), _BORDER))
    rendered = model(images, camera).render(cameras[1:].unsqueeze(0), size, size, skip_empty=True)
    return rendered.rgb[0].clamp(0, 1), rendered.opacity[0]
