"""Prompts to pictures by any text-to-image pipeline of diffusers."""

from __future__ import annotations

import inspect
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
from PIL import Image

from vfusion3d.engine.stage import ID, ItemError, Row, Stage, item_seed
from vfusion3d.engine.stages.pretrained import (
    CARD,
    DTYPES,
    ENDINGS,
    UNKNOWN,
    check_dtype,
    find_pretrained,
    identify,
    licence_of,
)
from vfusion3d.engine.stages.weights import choose_device
from vfusion3d.errors import CheckpointError, UsageError
from vfusion3d.video.loading import check_weights, first_sentence, load_component, read_json, silent

PLACE = "{prompt}"
TEMPLATE = "{prompt}, 3D render, white background"
_INDEX = "model_index.json"
_LOGGER = logging.getLogger("vfusion3d")


class TextToImage(Stage):
    """One picture of each prompt.

    Columns: ``image``, a PNG file; ``image_seed``; ``image_licence``, a sentence for the lineage of what is made of it:
    the model's name and the licence that its card (`README.md`) states, or ``licence``.

    The noise comes from the item's id, on the CPU, so that an item has the same picture in every run, alone and in a
    batch, but for the rounding of batched arithmetic (one level of 255 at times).

    Args:
        model: ``owner/name`` on the Hugging Face hub or a folder in diffusers' layout, of a pipeline that
            ``AutoPipelineForText2Image`` knows: Stable Diffusion, SDXL, SD 3, PixArt, Sana, Flux, ... Components are
            loaded strictly from safetensors; code beside the weights is never run.
        template: What becomes of the prompt; has ``{prompt}`` once.
        negative_prompt: What pictures should not show, for models that take it.
        steps: Denoising steps; the pipeline's own number if None.
        guidance: Scale of classifier-free guidance; the pipeline's own if None.
        size: Pixels a side; the model's own if None.
        seed: Of the run.
        licence: What to record, where the card does not say, or other terms were agreed.
        dtype: Of the weights: float32, bfloat16 or float16.
        device: Where the model works; ``auto`` is a GPU if there is one.

    Raises:
        CheckpointError: if the model is not to be had or is no text-to-image pipeline.
        UsageError: if an argument cannot be used.
    """

    name = "text_to_image"
    reads = ("prompt",)
    writes: ClassVar[dict[str, pa.DataType]] = {
        "image": pa.binary(),
        "image_seed": pa.int64(),
        "image_licence": pa.string(),
    }

    def __init__(
        self,
        model: str,
        template: str = TEMPLATE,
        negative_prompt: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        seed: int = 0,
        licence: str | None = None,
        dtype: str = "float32",
        device: str = "auto",
    ) -> None:
        if template.count(PLACE) != 1:
            raise UsageError(f"Argument `template` must have {PLACE} once, but has it {template.count(PLACE)} times.")
        for argument, number in (("steps", steps), ("size", size)):
            if number is not None and number < 1:
                raise UsageError(f"Argument `{argument}` must be at least 1, but got {number}.")
        super().__init__(
            model=identify(model),
            template=template,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance=guidance,
            size=size,
            seed=seed,
            licence=licence,
            dtype=check_dtype(dtype),
        )
        self.source, self.template, self.seed, self.licence = model, template, seed, licence
        options = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "height": size,
            "width": size,
            "negative_prompt": negative_prompt,
        }
        self.options = {name: value for name, value in options.items() if value is not None}
        self.dtype, self.device = dtype, device
        self.pipeline: Any = None

    def load(self) -> None:
        """Load the pipeline.

        Raises:
            CheckpointError: if that fails.
            UsageError: if it does not take an option that was given.
        """
        folder = find_pretrained(self.source, _INDEX, [f"*/*{ending}" for ending in ENDINGS])
        self.licence = self.licence or licence_of(folder)
        if self.licence == UNKNOWN:
            _LOGGER.warning("%s does not say its licence in %s; give `licence` to record it.", self.source, CARD)
        pipeline = load_pipeline(folder, self.dtype)
        unknown = [name for name in self.options if name not in inspect.signature(pipeline.__call__).parameters]
        if unknown:
            raise UsageError(f"The {type(pipeline).__name__} in {self.source} takes no `{unknown[0]}`; leave it out.")
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to(choose_device(self.device))

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each prompt's picture, or that the model's safety checker took it back."""
        seeds = [item_seed(row[ID], self.seed, self.name) for row in rows]
        options: dict[str, Any] = dict(self.options)
        if "negative_prompt" in options:
            options["negative_prompt"] = [options["negative_prompt"]] * len(rows)
        with torch.inference_mode():
            made = self.pipeline(
                prompt=[self.template.replace(PLACE, row["prompt"]) for row in rows],
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="pil",
                **options,
            )
        refused = getattr(made, "nsfw_content_detected", None) or [False] * len(rows)
        licence = f"Text-to-image model {self.source}: {self.licence}"
        return [
            ItemError("The model's safety checker took the picture back.")
            if bad
            else {"image": _png(picture), "image_seed": seed, "image_licence": licence}
            for picture, seed, bad in zip(made.images, seeds, refused, strict=True)
        ]


def load_pipeline(folder: Path, dtype: str = "float32") -> Any:
    """A text-to-image pipeline whose every component is strictly loaded from safetensors.

    Args:
        folder: In diffusers' layout.
        dtype: Of the weights, a key of `DTYPES`.

    Raises:
        CheckpointError: if it is none, or a component cannot be loaded.
    """
    from diffusers import AutoPipelineForText2Image

    index = read_json(folder / _INDEX)
    parts = {
        name: load_component(folder, name, _class_of(folder, *entry), DTYPES[dtype])
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and all(entry) and _has_weights(folder / name)
    }
    try:
        with silent():
            return AutoPipelineForText2Image.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, **parts
            )
    except Exception as error:  # of many types
        raise CheckpointError(
            f"{folder} is no text-to-image pipeline that can be loaded ({first_sentence(error)}): give a model that "
            "diffusers' AutoPipelineForText2Image knows."
        ) from error


def _has_weights(path: Path) -> bool:
    """Whether a component is a network; schedulers and tokenizers have configurations of other names."""
    if not (path / "config.json").is_file():
        return False
    check_weights(path)
    return True


def _class_of(folder: Path, library: str, name: str) -> Any:
    """A component's class, which must be one of diffusers or transformers.

    Raises:
        CheckpointError: if it is another, whose code would have to be run.
    """
    import diffusers
    import transformers

    homes = {"diffusers": diffusers, "transformers": transformers}
    found = getattr(homes.get(library) or getattr(diffusers.pipelines, library, None), name, None)
    if found is None:
        raise CheckpointError(
            f"{folder} needs {library}.{name}, which is neither of diffusers nor of transformers, and code beside "
            "weights is not run: give another model."
        )
    return found


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.convert("RGB").save(data, format="PNG")
    return data.getvalue()
