"""The shape of the paper's Tables 4 and 6 with small models, and what wrong cameras cost at test time.

    python benchmarks/ablations.py --output runs/ablations
    python benchmarks/ablations.py --output runs/ablations --only table4 noise --steps 1200

Trains every row from scratch with several seeds and prints means over seeds and their spread beside the paper's
numbers, in Markdown or as --json; OUTPUT gets report.md, report.json, plots, and a folder per run with its model, its
pictures and its figures. A run that is there is not repeated, so an interrupted benchmark continues.

table4: the training strategies added one by one, on stand-ins for generated videos: procedural objects whose pictures
are taken from jittered cameras but labelled with nominal ones, and, but for the first view, bent and drifted in colour
each in its own way. table6: the whole recipe on those ("synthetic"), on plain renders of a fixed set ("3D", each object
seen 30 times), and on the former and then, for a third of the steps, on the latter. noise: the last two rows of table4,
told wrong poses and fields of view at test time. elevation: the same two, with inputs from -10 to 45 degrees whose
elevation is told wrong by 0 to 15 degrees. All are scored on fixed procedural objects that no run saw: means over four
novel views, then over objects, on white. Two floors stand beside: white, and the input in every view.

With a random trunk the perceptual loss is no LPIPS, so that the row without a pixel loss is no evidence about LPIPS; it
is marked. --trunk-weights takes `pretrained` or a torchvision file. By default that is 21 runs of 11,400 steps in all.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer, seed_everything
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vfusion3d import Cameras, ProceduralDataModule, ReconstructorTraining, TriplaneReconstructor, rigid_noise
from vfusion3d.alpha import over_white
from vfusion3d.callbacks import CameraNoise, LearningRateRestart, ResolutionSchedule
from vfusion3d.callbacks.novel_views import object_rows
from vfusion3d.cameras import fit_radius, focal_from_fov, on_sphere, pinhole
from vfusion3d.data import MultiViewBatch, ProceduralObjects, render, sample_objects, unit_noise
from vfusion3d.data.procedural import sample_object
from vfusion3d.data.procedural_module import ProceduralDataset
from vfusion3d.data.randomness import sample_seed
from vfusion3d.errors import MissingExtraError, UsageError, VFusion3DError
from vfusion3d.metrics import NovelViewMetrics, novel_view_figures
from vfusion3d.models import Rendering
from vfusion3d.outputs import make_folder, output_errors, result_folder, write_atomically
from vfusion3d.training import LossWeights, PatchSettings
from vfusion3d.training.patches import recentre_inputs

CHANGES: dict[str, dict[str, Any]] = {
    "nano": {  # those of recipes/nano/reconstructor.yaml
        **{"image_size": 64, "patch_size": 8, "encoder_dim": 96, "encoder_layers": 2, "transformer_dim": 96},
        **{"transformer_layers": 2, "triplane_low": 8, "triplane_high": 32, "triplane_channels": 16, "field_dim": 32},
    },
    "tiny": {},
}
BATCH, VIEWS, PATCH = 8, 4, 16
COARSE, FINE = 16, 12  # samples per ray, as in the recipe
RESOLUTIONS, STAGES = (16, 24, 32, 40, 48), (5, 5, 5, 5, 10)  # an eighth of the paper's
EPOCHS, RESTART = 30, 10  # the paper's; an epoch is a thirtieth of the steps
RATE, FINE_TUNING_RATE, WARMUP = 1e-3, 2.5e-4, 20  # ours; the paper lowers its rate by the same factor
PERCEPTUAL, OPACITY = 0.05, 0.1  # ours
JITTER, BEND, DRIFT = 0.03, 0.05, 0.15  # of stand-ins: radians and world units; half frames; share of the colour
FOV, ELEVATION, BORDER = 40.0, 20.0, 0.1
ROTATIONS = (0.0, 0.02, 0.05, 0.1, 0.2)  # radians
FOV_ERRORS = (0.0, 2.5, 5.0, 10.0)  # degrees, of the field of view
ELEVATIONS, LABEL_ERRORS = (-10.0, 0.0, 15.0, 30.0, 45.0), (0.0, 5.0, 10.0, 15.0)  # degrees
EVALUATION_SEED, DRAWS = 20261125, 3
_BEND_STREAM, _DRIFT_STREAM, _JITTER_STREAM, _OBJECT_STREAM = 201, 202, 203, 204

Report = dict[str, Any]


# -- rows ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """One line of a table: how a model is trained."""

    key: str
    label: str
    paper_ssim: float | None
    stages: bool = True
    pixel_loss: bool = False
    opacity: bool = True
    noise: bool = True
    data: str = "synthetic"
    start: str | None = None
    """Row whose weights it starts from; then it is a fine-tuning, a third as long, as in the paper."""


ROWS = (
    Row("baseline", "baseline", 0.826, stages=False, pixel_loss=True, opacity=False, noise=False),
    Row("multi-stage", "+ multi-stage", 0.829, pixel_loss=True, opacity=False, noise=False),
    Row("no-pixel-loss", "+ no pixel loss", 0.831, opacity=False, noise=False),
    Row("opacity", "+ opacity", 0.831, noise=False),
    Row("camera-noise", "+ camera noise", 0.830),
    Row("3d", "3D only", 0.839, data="3d"),
    Row("both", "synthetic, then 3D", 0.842, pixel_loss=True, data="3d", start="camera-noise"),
)
BY_KEY = {row.key: row for row in ROWS}
TABLES = {
    "table4": ("baseline", "multi-stage", "no-pixel-loss", "opacity", "camera-noise"),
    "table6": ("3d", "camera-noise", "both"),
    "noise": ("opacity", "camera-noise"),
    "elevation": ("opacity", "camera-noise"),
}
TABLE6_SYNTHETIC = ("synthetic only", 0.832)  # the whole recipe of table 4 under its name in table 6


# -- data ------------------------------------------------------------------------------------------------------
def corrupt(images: Tensor, bend: Tensor, drift: Tensor) -> Tensor:
    """Views as a video model might have drawn them: bent smoothly and drifted in colour, each in its own way.

    Args:
        images: Premultiplied RGBA, ``[N, 4, H, W]``.
        bend: Uniform numbers in [0, 1), ``[N, 2, 4, 4]``: a displacement of up to `BEND` half frames.
        drift: Uniform numbers in [0, 1), ``[N, 3]``: a change of the colours by up to the share `DRIFT`.
    """
    size = images.shape[-2:]
    shift = F.interpolate((2 * bend - 1) * BEND, size, mode="bicubic", align_corners=True)
    identity = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False) + shift.permute(0, 2, 3, 1)
    bent = F.grid_sample(images, grid, align_corners=False)
    gain = 1 + DRIFT * (2 * drift - 1)
    colour = torch.minimum(bent[:, :3] * gain[..., None, None], bent[:, 3:])
    return torch.cat([colour, bent[:, 3:]], 1)


class GeneratedStandIns(ProceduralDataModule):
    """New objects in views that are not quite consistent and not quite where their cameras say."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> MultiViewBatch:
        """Render from jittered cameras, corrupt all but the first view, and claim the nominal cameras."""
        nominal = Cameras(batch["poses"], batch["intrinsics"])
        sample, epoch = torch.as_tensor(batch["sample"]), torch.as_tensor(batch["epoch"])
        count, views = nominal.shape
        unit = unit_noise(self.seed, sample, epoch, 10 * views, _JITTER_STREAM).view(count, views, 10)
        true = rigid_noise(nominal, JITTER, JITTER, unit=unit)
        described = {**batch, "poses": true.poses, "intrinsics": true.intrinsics}
        delivered = super().on_after_batch_transfer(described, dataloader_idx)  # type: ignore[arg-type]
        others = views - 1
        bend = unit_noise(self.seed, sample, epoch, others * 32, _BEND_STREAM).view(-1, 2, 4, 4)
        drift = unit_noise(self.seed, sample, epoch, others * 3, _DRIFT_STREAM).view(-1, 3)
        images = delivered["images"]
        corrupted = corrupt(images[:, 1:].flatten(0, 1), bend.to(images), drift.to(images))
        delivered["images"] = torch.cat([images[:, :1], corrupted.unflatten(0, (count, others))], 1)
        delivered["poses"], delivered["intrinsics"] = nominal.poses, nominal.intrinsics
        return delivered


class FixedObjects(ProceduralDataset):
    """A fixed set of objects, sample ``s`` being object ``s % objects``, from new cameras each time."""

    def __init__(self, objects: int, *settings: Any) -> None:
        super().__init__(*settings)
        self.objects = objects

    def __getitem__(self, index: tuple[int, int]) -> Any:
        item = super().__getitem__(index)
        item["objects"] = sample_object(sample_seed(self.seed, index[1] % self.objects, 0, _OBJECT_STREAM))
        return item


class FixedRenders(ProceduralDataModule):
    """Plain renders of a fixed set of objects."""

    def __init__(self, objects: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.objects = objects

    def _dataset(self, seed: int) -> ProceduralDataset:
        return FixedObjects(self.objects, seed, self.views, self.elevation, self.fov, self.zoom)


def training_data(row: Row, seed: int, whole: int) -> ProceduralDataModule:
    """The data of a run, where training from scratch takes ``whole`` steps: one Lightning epoch."""
    samples = steps_of(row, whole) * BATCH
    settings: dict[str, Any] = {"samples_per_epoch": samples, "batch_size": BATCH, "views": VIEWS, "seed": seed}
    settings["resolution"] = max(RESOLUTIONS)
    if row.data == "3d":  # seen 30 times from scratch and 10 times in a fine-tuning, as in the paper
        return FixedRenders(max(1, whole * BATCH // EPOCHS), **settings)
    return GeneratedStandIns(**settings)


# -- training --------------------------------------------------------------------------------------------------
class Meter(Callback):
    """Moves the benchmark's bar by every step."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def on_train_batch_end(self, *arguments: Any) -> None:
        """One step further."""
        self.bar.update()


def steps_of(row: Row, whole: int) -> int:
    """Steps of a run, where training from scratch takes ``whole``."""
    return max(1, whole // 3) if row.start else whole


def schedules(row: Row, seed: int) -> list[Callback]:
    """The callbacks of a row; lengths are shares of the run."""
    if row.start:
        return [
            ResolutionSchedule([max(RESOLUTIONS)], [1]),
            LearningRateRestart(FINE_TUNING_RATE, [1], warmup_steps=0),
            CameraNoise(targets="source", seed=seed),
        ]
    callbacks: list[Callback] = [
        ResolutionSchedule(list(RESOLUTIONS), [stage / EPOCHS for stage in STAGES])
        if row.stages
        else ResolutionSchedule(uniform=(min(RESOLUTIONS), max(RESOLUTIONS))),
        LearningRateRestart(RATE, [RESTART / EPOCHS, 1 - RESTART / EPOCHS] if row.stages else [1], warmup_steps=WARMUP),
    ]
    return [*callbacks, CameraNoise(targets="both", seed=seed)] if row.noise else callbacks


def train(row: Row, seed: int, weights: Path | None, options: argparse.Namespace, bar: Any) -> TriplaneReconstructor:
    """A model trained as the row says."""
    seed_everything(seed, verbose=False)
    module = ReconstructorTraining(
        options.architecture,
        changes=CHANGES[options.architecture],
        weights=None if weights is None else str(weights),
        losses=LossWeights(
            perceptual=PERCEPTUAL,
            l2=1.0 if row.pixel_loss else 0.0,
            opacity=OPACITY if row.opacity else 0.0,
            trunk=options.trunk,
            trunk_weights=options.trunk_weights,
        ),
        patches=PatchSettings(size=PATCH, coarse_samples=COARSE, fine_samples=FINE, recompute=False),
        seed=seed,
    )
    trainer = Trainer(
        accelerator=options.accelerator,
        devices=1,
        max_epochs=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*schedules(row, seed), Meter(bar)],
    )
    trainer.fit(module, training_data(row, seed, options.steps))
    return module.model.eval()


# -- evaluation ------------------------------------------------------------------------------------------------
class Exam:
    """Fixed objects, an input view of each and four others, and the floors."""

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        seeds = torch.tensor([sample_seed(EVALUATION_SEED, k, 0) for k in range(count)])
        self.objects: ProceduralObjects = sample_objects(seeds)
        self.index = torch.arange(count)
        azimuth = 2 * math.pi * unit_noise(EVALUATION_SEED, self.index, torch.zeros_like(self.index), 1)[:, 0]
        self.azimuth = azimuth.double()
        turns = torch.tensor([60.0, 135.0, 210.0, 285.0], dtype=torch.float64).deg2rad()
        self.novel = self._cameras(self.azimuth[:, None] + turns, ELEVATION)
        self.truth = render(self.objects, self.novel, size, size)
        self._inputs: dict[float, Tensor] = {}

    @staticmethod
    def _cameras(azimuth: Tensor, elevation: float) -> Cameras:
        height = torch.tensor(elevation, dtype=torch.float64).deg2rad()
        return on_sphere(azimuth, height, fit_radius(FOV), pinhole(FOV)).to(torch.float32)

    def inputs(self, elevation: float) -> Tensor:
        """Input pictures from an elevation in degrees, premultiplied ``[N, 4, S, S]``."""
        if elevation not in self._inputs:
            cameras = self._cameras(self.azimuth[:, None], elevation)
            self._inputs[elevation] = render(self.objects, cameras, self.size, self.size)[:, 0]
        return self._inputs[elevation]

    @torch.no_grad()
    def views(
        self,
        model: TriplaneReconstructor,
        elevation: float = ELEVATION,
        rotation: float = 0.0,
        draw: int = 0,
        fov_error: float = 0.0,
        elevation_error: float = 0.0,
        with_input: bool = False,
    ) -> Rendering:
        """Novel views by a model whose inputs are seen from an elevation and whose cameras are told wrong.

        Args:
            model: On any device.
            elevation: Of the inputs, degrees.
            rotation: Largest component of a random turn of the told camera, radians.
            draw: Which random turn.
            fov_error, elevation_error: Degrees that the told camera has too many.
            with_input: Put a render of the input's view at `ELEVATION` before the others.
        """
        told = self._cameras(self.azimuth, elevation + elevation_error)
        unit = unit_noise(EVALUATION_SEED, self.index, torch.full_like(self.index, draw + 1), 10)
        told = rigid_noise(told, rotation, 0.0, unit=unit)
        focal = focal_from_fov(FOV + fov_error)
        told = Cameras(told.poses, told.intrinsics.new_tensor([focal, focal, 0.5, 0.5]).expand(len(self.index), 4))
        border = torch.full((len(self.index),), BORDER)
        pictures, told = recentre_inputs(self.inputs(elevation), told, model.config.image_size, border)
        device = model.device
        cameras = Cameras.cat([self._cameras(self.azimuth[:, None], ELEVATION), self.novel], 1).to(device)
        rendered = model(pictures.to(device), told.to(device)).render(
            cameras if with_input else cameras[:, 1:], self.size, self.size, coarse_samples=COARSE, fine_samples=FINE
        )
        return Rendering(*(picture.cpu() for picture in rendered))

    def score(self, rgb: Tensor, opacity: Tensor) -> dict[str, float]:
        """Means per picture, then per object."""
        figures = novel_view_figures(rgb, opacity, over_white(self.truth), self.truth[:, :, 3:])
        return {name: float(figures[name].nanmean()) for name in NovelViewMetrics.NAMES}

    def grade(self, model: TriplaneReconstructor, **errors: float) -> dict[str, float]:
        """Figures of `views`; an error of either sign counts half, a random turn is drawn `DRAWS` times."""
        cases = [errors]
        if errors.get("rotation"):
            cases = [{**errors, "draw": draw} for draw in range(DRAWS)]
        for name in ("fov_error", "elevation_error"):
            if errors.get(name):
                cases = [{**errors, name: sign * errors[name]} for sign in (1, -1)]
        results = []
        for case in cases:
            rendered = self.views(model, **case)  # type: ignore[arg-type]
            results.append(self.score(rendered.rgb, rendered.opacity))
        return {name: statistics.fmean(result[name] for result in results) for name in NovelViewMetrics.NAMES}

    def floors(self) -> dict[str, dict[str, float]]:
        """White, and the input pasted into every view."""
        pasted = self.inputs(ELEVATION)[:, None].expand_as(self.truth)
        return {
            "white": self.score(torch.ones_like(self.truth[:, :, :3]), torch.zeros_like(self.truth[:, :, 3:])),
            "input pasted": self.score(over_white(pasted), pasted[:, :, 3:]),
        }

    def curves(self, what: str, model: TriplaneReconstructor) -> dict[str, Any]:
        """Robustness of a model: lists of (error, figures), for ``noise`` or ``elevation``."""
        if what == "noise":
            return {
                "rotation": [[error, self.grade(model, rotation=error)] for error in ROTATIONS],
                "fov": [[error, self.grade(model, fov_error=error)] for error in FOV_ERRORS],
            }
        return {
            f"{error:g}": [
                [height, self.grade(model, elevation=height, elevation_error=error)] for height in ELEVATIONS
            ]
            for error in LABEL_ERRORS
        }

    def picture(self, model: TriplaneReconstructor, count: int = 4) -> Image.Image:
        """Truth above render, opacity and depth of the first objects, the input framed."""
        rendered, truth = (
            self.views(model, with_input=True),
            torch.cat([self.inputs(ELEVATION)[:, None], self.truth], 1),
        )
        rows = [object_rows(truth, rendered, index) for index in range(min(count, len(truth)))]
        return Image.fromarray(np.concatenate(rows))


# -- runs ------------------------------------------------------------------------------------------------------
def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What makes runs comparable."""
    return {name: getattr(options, name) for name in ("architecture", "steps", "trunk", "trunk_weights", "objects")}


def wanted_rows(tables: list[str]) -> list[Row]:
    """The rows of tables in the order of training: what a row starts from comes before it."""
    keys = {key for table in tables for key in TABLES[table]}
    return [row for row in ROWS if row.key in keys]


def read_run(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What a finished run left, or None.

    Raises:
        UsageError: if it was made with other settings or its file is damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        return None
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        there = run["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"The file {path} is damaged; remove its folder, and the run is repeated.") from error
    other = sorted(key for key in settings if there.get(key) != settings[key])
    if other:
        raise UsageError(
            f"The run {folder} was made with other settings of {', '.join(other)}; choose another --output or the "
            "same settings."
        )
    return run


def finish(row: Row, seed: int, exam: Exam, options: argparse.Namespace, bar: Any) -> dict[str, Any]:
    """Train and score a run, unless it is there; what it left."""
    folder = options.output / f"{row.key}-seed{seed}"
    settings = settings_of(options)
    if (run := read_run(folder, settings)) is not None:
        return run
    start = time.perf_counter()
    weights = None if row.start is None else options.output / f"{row.start}-seed{seed}"
    model = train(row, seed, weights, options, bar).cpu()
    seconds = time.perf_counter() - start
    run = {
        **{"row": row.key, "seed": seed, "settings": settings, "steps": steps_of(row, options.steps)},
        **{"seconds": round(seconds, 1), "figures": exam.grade(model), "curves": {}},
    }
    with result_folder(folder, overwrite=True, marker="run.json") as partial:
        model.save_pretrained(partial)
        exam.picture(model).save(partial / "views.png")
        (partial / "run.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
    return run


def add_curves(run: dict[str, Any], table: str, exam: Exam, options: argparse.Namespace) -> None:
    """Measure a run's robustness, unless it is known."""
    if table in run["curves"]:
        return
    folder = options.output / f"{run['row']}-seed{run['seed']}"
    run["curves"][table] = exam.curves(table, TriplaneReconstructor.from_pretrained(folder))
    write_atomically(folder / "run.json", json.dumps(run, indent=1).encode())


# -- report ----------------------------------------------------------------------------------------------------
def mean_and_spread(values: list[float]) -> list[float | None]:
    """Mean, and standard deviation over seeds (None for a single one)."""
    return [statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None]


def verdict(ours: list[float | None], before: list[float | None], paper: float, random_trunk: bool) -> str:
    """Whether a step from one row to the next goes the paper's way in SSIM.

    Args:
        ours, before: Mean and spread of the row and of the one it is compared with.
        paper: The paper's difference.
        random_trunk: Whether the step's evidence would be about LPIPS, which there was none of.
    """
    if random_trunk:
        return "no evidence: random trunk"
    if ours[1] is None or before[1] is None:
        return "one seed: no spread"
    assert ours[0] is not None and before[0] is not None
    step = ours[0] - before[0]
    if abs(step) <= math.hypot(ours[1], before[1]):
        return "within the spread"
    if paper == 0:
        return "beyond the spread; the paper's does not move"
    return "agrees" if step * paper > 0 else "disagrees"


def table_rows(table: str, runs: dict[str, list[dict[str, Any]]], random_trunk: bool) -> list[dict[str, Any]]:
    """The lines of a table: means and spreads of every figure, and how SSIM moves beside the paper's.

    Table 4 compares each row with the one above it, table 6 with the first.
    """
    lines: list[dict[str, Any]] = []
    for key in TABLES[table]:
        label, paper = BY_KEY[key].label, BY_KEY[key].paper_ssim
        if table == "table6" and key == "camera-noise":
            label, paper = TABLE6_SYNTHETIC
        line: dict[str, Any] = {"row": key, "label": label, "paper_ssim": paper, "steps": runs[key][0]["steps"]}
        if start := BY_KEY[key].start:
            line["steps"] += runs[start][0]["steps"] if start in runs else 0
        for name in NovelViewMetrics.NAMES:
            line[name] = mean_and_spread([run["figures"][name] for run in runs[key]])
        if lines:
            before = lines[-1] if table == "table4" else lines[0]
            change = round(paper - before["paper_ssim"], 3)
            doubtful = random_trunk and key == "no-pixel-loss"
            line |= {"paper_change": change, "change": line["ssim"][0] - before["ssim"][0]}
            line["verdict"] = verdict(line["ssim"], before["ssim"], change, doubtful)
        lines.append(line)
    return lines


def cell(value: list[float | None], digits: int) -> str:
    """Mean +- spread."""
    mean, spread = value
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


DIGITS = {"psnr": 2, "foreground_psnr": 2, "ssim": 4, "iou": 3}


def markdown(report: Report) -> str:
    """The report as tables."""
    settings = report["settings"]
    lines = [
        f"{settings['architecture']}, {report['seeds']} seeds, {settings['steps']} steps of {BATCH} objects, "
        f"{settings['objects']} unseen objects at {max(RESOLUTIONS)} px; mean ± standard deviation over seeds.",
        "",
        f"Perceptual loss: {report['perceptual']}.",
    ]
    compared = {"table4": "the row above", "table6": "3D only"}
    for table in ("table4", "table6"):
        if table not in report:
            continue
        lines += ["", f"## {table.replace('table', 'Table ')}", ""]
        lines.append(
            f"| | steps | PSNR | fg PSNR | SSIM | IoU | SSIM against {compared[table]} | paper's | |\n"
            "|---|---|---|---|---|---|---|---|---|"
        )
        for line in report[table]:
            figures = " | ".join(cell(line[name], digits) for name, digits in DIGITS.items())
            change = (
                f"{line['change']:+.4f} | {line['paper_change']:+.3f} | {line['verdict']}"
                if "verdict" in line
                else "| |"
            )
            lines.append(f"| {line['label']} | {line['steps']} | {figures} | {change} |")
        for name, floor in report["floors"].items():
            figures = " | ".join(f"{floor[key]:.{digits}f}" for key, digits in DIGITS.items())
            lines.append(f"| floor: {name} | | {figures} | | | |")
    titles = {"rotation": "turn of the told camera, radians", "fov": "error of the told field of view, degrees"}
    for key, curves in report.get("noise", {}).items():
        for kind, curve in curves.items():
            lines += ["", f"## {BY_KEY[key].label}: {titles[kind]}", ""]
            lines += ["| error | PSNR | SSIM |", "|---|---|---|"]
            lines += [f"| {error:g} | {cell(at['psnr'], 2)} | {cell(at['ssim'], 4)} |" for error, at in curve]
    for key, curves in report.get("elevation", {}).items():
        lines += ["", f"## {BY_KEY[key].label}: PSNR by the input's elevation and its label's error, degrees", ""]
        heights = [height for height, _ in next(iter(curves.values()))]
        lines += [
            "| error | " + " | ".join(f"{height:g}" for height in heights) + " |",
            "|---" * (len(heights) + 1) + "|",
        ]
        for error, curve in curves.items():
            lines.append(f"| {error} | " + " | ".join(cell(at["psnr"], 2) for _, at in curve) + " |")
    return "\n".join(lines) + "\n"


def joined_curves(table: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Curves of a table's rows with means and spreads over seeds."""
    joined: dict[str, Any] = {}
    for key in TABLES[table]:
        every = [run["curves"][table] for run in runs[key]]
        joined[key] = {
            kind: [
                [
                    error,
                    {name: mean_and_spread([c[kind][k][1][name] for c in every]) for name in NovelViewMetrics.NAMES},
                ]
                for k, (error, _) in enumerate(points)
            ]
            for kind, points in every[0].items()
        }
    return joined


def plots(report: Report, output: Path) -> Iterator[Path]:
    """Draw what the report has; the files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    def save(figure: Any, name: str) -> Path:
        figure.savefig(output / f"{name}.png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
        return output / f"{name}.png"

    def draw(axis: Any, curve: list[Any], label: str) -> None:
        means, spreads = zip(*(at["psnr"] for _, at in curve), strict=True)
        axis.errorbar([x for x, _ in curve], means, [spread or 0 for spread in spreads], label=label, capsize=3)

    for table in ("table4", "table6"):
        if table not in report:
            continue
        lines, names = report[table], ("psnr", "ssim", "iou")
        figure, axes = pyplot.subplots(1, 3, figsize=(12, 0.5 * len(lines) + 1.5), sharey=True)
        for axis, name in zip(axes, names, strict=True):
            means, spreads = zip(*(line[name] for line in lines), strict=True)
            axis.errorbar(means, range(len(lines)), xerr=[spread or 0 for spread in spreads], fmt="o", capsize=3)
            axis.set_title(name)
        axes[0].set_yticks(range(len(lines)), [line["label"] for line in lines])
        axes[0].invert_yaxis()
        yield save(figure, table)
    if "noise" in report:
        figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
        for axis, (kind, title) in zip(
            axes, (("rotation", "turn, radians"), ("fov", "field of view, degrees")), strict=True
        ):
            for key, curves in report["noise"].items():
                draw(axis, curves[kind], BY_KEY[key].label)
            axis.set(xlabel=f"error told at test time: {title}", ylabel="PSNR, dB")
            axis.legend()
        yield save(figure, "noise")
    if "elevation" in report:
        figure, axes = pyplot.subplots(1, len(report["elevation"]), figsize=(10, 4), sharey=True)
        for axis, (key, curves) in zip(axes, report["elevation"].items(), strict=True):
            for error, curve in curves.items():
                draw(axis, curve, f"label off by {error}°")
            axis.set(xlabel="elevation of the input, degrees", ylabel="PSNR, dB", title=BY_KEY[key].label)
            axis.legend()
        yield save(figure, "elevation")


# -- command ---------------------------------------------------------------------------------------------------
def parser() -> argparse.ArgumentParser:
    """Options of the script."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = options.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="folder of runs, plots and the report")
    add("--only", nargs="+", choices=list(TABLES), default=list(TABLES), help="parts to do (default: all)")
    add("--seeds", type=int, default=3, help="runs per row (default: 3)")
    add("--steps", type=int, default=600, help="steps of a run from scratch (default: 600)")
    add("--objects", type=int, default=24, help="unseen objects to score (default: 24)")
    add("--architecture", choices=list(CHANGES), default="nano", help="size of the models (default: nano)")
    add("--trunk", choices=["vgg", "alex", "squeeze"], default="vgg", help="of the perceptual loss (default: vgg)")
    add("--trunk-weights", default="random", help="random (default), pretrained, or a torchvision file of the trunk")
    add("--accelerator", default="cpu", help="Lightning's: cpu (default), cuda, auto")
    add("--json", action="store_true", help="print one JSON document instead of Markdown")
    return options


def benchmark(options: argparse.Namespace) -> Report:
    """Do what is missing and gather everything.

    Raises:
        VFusion3DError: if an option or what lies in the folder cannot be used.
    """
    for name in ("seeds", "steps", "objects"):
        if getattr(options, name) < 1:
            raise UsageError(f"Argument --{name} must be at least 1, but got {getattr(options, name)}.")
    try:
        import matplotlib  # noqa: F401 - hours before it is needed
    except ImportError as error:
        raise MissingExtraError("The plots need matplotlib: pip install matplotlib.") from error
    make_folder(options.output)
    tables = [table for table in TABLES if table in options.only]
    jobs = [(row, seed) for seed in range(options.seeds) for row in wanted_rows(tables)]
    settings = settings_of(options)
    missing = [
        steps_of(row, options.steps)
        for row, seed in jobs
        if read_run(options.output / f"{row.key}-seed{seed}", settings) is None
    ]
    exam = Exam(options.objects, max(RESOLUTIONS))
    runs: dict[str, list[dict[str, Any]]] = {}
    with tqdm(total=sum(missing), unit="step", file=sys.stderr) as bar:
        for row, seed in jobs:
            bar.set_description(f"{row.key}, seed {seed}")
            run = finish(row, seed, exam, options, bar)
            for table in ("noise", "elevation"):
                if table in tables and row.key in TABLES[table]:
                    bar.set_description(f"{row.key}, seed {seed}: {table}")
                    add_curves(run, table, exam, options)
            runs.setdefault(row.key, []).append(run)
    random_trunk = options.trunk_weights == "random"
    report: Report = {
        "settings": settings,
        "seeds": options.seeds,
        "perceptual": f"random features of {options.trunk}, not LPIPS" if random_trunk else f"LPIPS ({options.trunk})",
        "floors": exam.floors(),
    }
    for table in tables:
        if table in ("table4", "table6"):
            report[table] = table_rows(table, runs, random_trunk)
        else:
            report[table] = joined_curves(table, runs)
    report["runs"] = [{k: v for k, v in run.items() if k != "curves"} for key in runs for run in runs[key]]
    return report


def main() -> int:
    """Train, score, draw and print; 0, or 2 if something cannot be used."""
    options = parser().parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    try:
        report = benchmark(options)
        write_atomically(options.output / "report.json", json.dumps(report, indent=1).encode())
        text = markdown(report)
        write_atomically(options.output / "report.md", text.encode())
        with output_errors(options.output):
            drawn = list(plots(report, options.output))
    except VFusion3DError as error:
        print(f"ablations.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1) if options.json else text.rstrip("\n"))
    print(f"Written to {options.output}: report.md, report.json, {', '.join(p.name for p in drawn)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
