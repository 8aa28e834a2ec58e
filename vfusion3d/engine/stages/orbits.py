"""First frames to orbits: the fine-tuned video model as a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch

from vfusion3d.cameras import Rig, fit_radius
from vfusion3d.engine.stage import ID, ItemError, Row, Stage, item_seed
from vfusion3d.engine.stages.pictures import decode_frames, each_row, encode_frames
from vfusion3d.engine.stages.weights import choose_device, weights_identity
from vfusion3d.errors import UsageError
from vfusion3d.preprocessing import FOV
from vfusion3d.video.generator import SIZE, STEPS, OrbitGenerator
from vfusion3d.video.guidance import Guidance
from vfusion3d.video.registry import is_preset
from vfusion3d.video.trained import WEIGHTS, VideoModelConfig, find_video_model, read_video_config

RIG = pa.struct({"radius": pa.float64(), "fov": pa.float64(), "direction": pa.int32(), "frames": pa.int32()})
"""A `Rig` in a column."""
_DECIDING = ("backbone", "source", "train", "rank", "options", "rig", "size")  # of a model's configuration


def row_rig(row: Row) -> Rig:
    """The rig in a row's column ``rig``."""
    return Rig(**row["rig"])


class ImageToOrbit(Stage):
    """An orbit around the object of a first frame, by a video model.

    Items go through the model one at a time: rounding depends on the size of a batch, and an item's bytes must not
    depend on its neighbours (sixteen frames in up to three guidance branches fill a GPU anyway). The seed is
    `item_seed` of the item's id, so that any item can be made again exactly.

    Args:
        model: What `OrbitGenerator.from_pretrained` takes: a folder that ``vfusion3d export`` wrote, ``owner/name`` on
            the hub, or ``BACKBONE:SOURCE``, a model that was not fine-tuned.
        size: Pixels a side; those it was trained on by default.
        steps: Denoising steps.
        solver: One of the model's; its first by default.
        guidance: Arguments of `Guidance`: ``image``, ``text``, ``profile``.
        eta: Share of DDPM's noise that the solver ``ddim`` adds in every step.
        precision: ``fp32``, ``bf16``, ``fp16`` or None for as the weights were trained.
        elevation: Degrees above the horizon that a model which is told cameras is told.
        seed: Of the run; another seed, other videos.
        device: Where it works; ``auto`` is a GPU if there is one. Decides no result but for rounding.

    Raises:
        CheckpointError: if the model is not there.
        UsageError: if an argument is out of range.
    """

    name = "orbit"
    reads = ("first_frame",)
    optional = ("prompt",)
    writes: ClassVar[dict[str, pa.DataType]] = {
        "frames": pa.list_(pa.binary()),
        "rig": RIG,
        "orbit_seed": pa.int64(),
        "orbit_licence": pa.string(),
    }

    def __init__(
        self,
        model: str | Path,
        size: int | None = None,
        steps: int = STEPS,
        solver: str | None = None,
        guidance: Mapping[str, Any] | None = None,
        eta: float = 0.0,
        precision: str | None = None,
        elevation: float = 0.0,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.model, self.size, self.device, self.precision = str(model), size, device, precision
        self.guidance, self.elevation, self.seed = Guidance(**(guidance or {})), elevation, seed
        self.options: dict[str, Any] = {"steps": steps, "solver": solver, "eta": eta}
        identity, self.rig, trained_on = _identify(self.model)
        self.size = size or trained_on
        self.generator: OrbitGenerator | None = None
        super().__init__(
            **self.options,
            model=identity,
            size=self.size,
            guidance=asdict(self.guidance),
            precision=precision,
            elevation=elevation,
            seed=seed,
        )

    def load(self) -> None:
        """Load the model.

        Raises:
            CheckpointError: if it cannot be loaded.
            UsageError: if a setting does not fit it.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the random weights of a preset are the same in all processes
            self.generator = OrbitGenerator.from_pretrained(
                self.model,
                choose_device(self.device),
                self.precision,
                self.size,
                guidance=self.guidance,
                **self.options,
            )
        if self.generator.rig != self.rig:
            raise UsageError(
                f"The video model {self.model} makes orbits of {self.generator.rig}, but was taken for one of "
                f"{self.rig}; give a model that was exported by `vfusion3d export`."
            )

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each row's frames as lossless WebP, what they claim of cameras, and whose terms they are under."""
        return each_row(rows, self._generate)

    def _generate(self, row: Row) -> Row:
        generator = self.generator
        assert generator is not None, "load() comes first"
        first = decode_frames([row["first_frame"]])[0]
        if first.shape[-2:] != (generator.size, generator.size):
            raise ItemError(
                f"The first frame has {first.shape[-1]} x {first.shape[-2]} pixels, but the video model makes "
                f"{generator.size} x {generator.size}; centre pictures at that size."
            )
        seed = item_seed(row[ID], self.seed, self.name)
        text = row.get("prompt") if generator.backbone.reads_text else None
        frames = generator(first, text, seed, elevation=self.elevation)
        return {
            "frames": encode_frames(frames),
            "rig": asdict(self.rig),
            "orbit_seed": seed,
            "orbit_licence": orbit_licence(generator),
        }


def orbit_licence(generator: OrbitGenerator) -> str:
    """What a model's videos are under: its lineage, one statement a line, with the licence of its own weights first."""
    about = generator.about()
    own = [] if generator.config is None else [f"Video model {about['name']}: {about['licence']}"]
    return "\n".join([*own, *about["lineage"]])


def _identify(model: str) -> tuple[dict[str, Any], Rig, int]:
    """What decides a model's results, as plain data, its rig, and the size it was trained on."""
    name, _, source = model.partition(":")
    if source and not Path(model).exists():
        identity = source if is_preset(name, source) else weights_identity(source)
        return {"backbone": name, "source": identity}, Rig(round(fit_radius(FOV), 4), FOV), SIZE
    folder = find_video_model(model)
    config = read_video_config(folder)
    return {**_deciding(config), "weights": weights_identity(folder / WEIGHTS)}, config.rig, config.size


def _deciding(config: VideoModelConfig) -> dict[str, Any]:
    """What of a configuration decides what its model makes."""
    settings = {key: value for key, value in config.to_dict().items() if key in _DECIDING}
    if not is_preset(config.backbone, config.source):
        settings["source"] = weights_identity(config.source)
    return settings
