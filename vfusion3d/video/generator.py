"""A picture in, an orbit out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vfusion3d.cameras import Rig, fit_radius
from vfusion3d.errors import UsageError
from vfusion3d.preprocessing import FOV, CentredPicture, centre_picture, rig_border
from vfusion3d.video.backbone import Conditioning, VideoBackbone
from vfusion3d.video.guidance import Guidance
from vfusion3d.video.precision import cast_weights
from vfusion3d.video.registry import create_backbone
from vfusion3d.video.sampling import Progress, check_solver, sample_latents
from vfusion3d.video.trained import (
    UNKNOWN,
    VideoModelConfig,
    find_video_model,
    load_video_model,
    read_video_config,
)

SIZE = 256
STEPS = 50
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Picture = str | Path | Image.Image | CentredPicture | Tensor


class OrbitGenerator:
    """Makes orbits of objects from one picture each.

    Args:
        backbone: A trained backbone; it is put into evaluation mode.
        rig: Cameras of the orbits it was trained on; by default those whose frame the unit sphere just fits.
        size: Pixels a side that pictures are brought to.
        steps: Denoising steps.
        solver: One of the backbone's solvers (``backbone.process.solvers``); the first by default.
        guidance: Weights of picture and text.
        eta: Share of DDPM's noise that the solver ``ddim`` adds in every step.
        together: Videos that go through the network at once (`GuidedDenoiser`).

    Raises:
        UsageError: if an argument does not fit the backbone.

    Example:
        >>> from PIL import Image, ImageDraw
        >>> from vfusion3d import OrbitGenerator
        >>> from vfusion3d.video import create_backbone
        >>> picture = Image.new("RGB", (96, 96), "white")
        >>> ImageDraw.Draw(picture).ellipse((20, 20, 70, 80), fill="red")
        >>> generate = OrbitGenerator(create_backbone("emu", "tiny"), size=16, steps=2)
        >>> generate(picture, seed=7).shape
        torch.Size([16, 3, 16, 16])
    """

    def __init__(
        self,
        backbone: VideoBackbone,
        rig: Rig | None = None,
        size: int = SIZE,
        *,
        steps: int = STEPS,
        solver: str | None = None,
        guidance: Guidance | None = None,
        eta: float = 0.0,
        together: int | None = None,
    ) -> None:
        check_solver(backbone, solver, steps, eta)
        backbone.check_size(size, size)
        self.rig = rig or Rig(round(fit_radius(FOV), 4), FOV, frames=backbone.frames or 16)
        if backbone.frames not in (None, self.rig.frames):
            raise UsageError(
                f"The backbone {backbone.name} makes {backbone.frames} frames, but the rig has {self.rig.frames}; give "
                "a model and a rig that belong together."
            )
        if together is not None and together < 1:
            raise UsageError(f"Argument `together` must be at least 1, but got {together}.")
        self.backbone, self.size, self.steps = backbone.eval(), size, steps
        self.solver = solver or backbone.process.solvers[0]
        self.guidance, self.eta, self.together = guidance or Guidance(), eta, together
        self.source: str | None = None
        """What `from_pretrained` was asked for."""
        self.config: VideoModelConfig | None = None
        """What is known of the model's training; None of one that was not fine-tuned."""

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        device: str | torch.device = "cpu",
        precision: str | None = None,
        size: int | None = None,
        **options: Any,
    ) -> OrbitGenerator:
        """Load a model.

        Args:
            model: A shipped name, a folder that ``vfusion3d export`` wrote, ``owner/name`` on the Hugging Face hub, or
                ``BACKBONE:SOURCE``, a backbone that was not fine-tuned (`create_backbone`).
            device: Where to put it.
            precision: Type of the denoiser's weights: ``fp32``, ``bf16``, ``fp16`` or None for as they were trained.
            size: Pixels a side of the frames; those it was trained on by default.
            options: Of the constructor, but not the rig.

        Raises:
            UsageError: if an argument is wrong.
            CheckpointError: if the model cannot be loaded.
        """
        if precision is not None and precision not in PRECISIONS:
            raise UsageError(f"Argument `precision` must be one of {', '.join(PRECISIONS)}, but got {precision!r}.")
        name, _, source = str(model).partition(":")
        config: VideoModelConfig | None = None
        if source and not Path(model).exists():
            backbone = create_backbone(name, source).eval()
        else:
            folder = find_video_model(model)
            config, backbone = read_video_config(folder), load_video_model(folder)
        backbone.to(device)
        if precision is not None:
            cast_weights(backbone.denoiser, PRECISIONS[precision])
        rig, trained_on = (None, SIZE) if config is None else (config.rig, config.size)
        generator = cls(backbone, rig, size or trained_on, **options)
        generator.source, generator.config = str(model), config
        return generator

    def about(self) -> dict[str, Any]:
        """Name, source, backbone, licence and lineage of licences of the model, for reports; plain data."""
        config, backbone = self.config, self.backbone
        return {
            "name": backbone.name if config is None else config.name,
            "source": self.source,
            "backbone": backbone.name,
            "licence": UNKNOWN if config is None else config.licence,
            "lineage": [backbone.licence] if config is None else list(config.lineage),
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.backbone.denoiser.parameters()).device

    @property
    def precision(self) -> str:
        """Type of the denoiser's weights, as `from_pretrained` calls it."""
        dtype = next(self.backbone.denoiser.parameters()).dtype
        return next((name for name, known in PRECISIONS.items() if known == dtype), str(dtype))

    def prepare(
        self,
        picture: str | Path | Image.Image,
        background: str = "auto",
        background_weights: str | Path | None = None,
        check: bool = True,
    ) -> CentredPicture:
        """Cut an object out and centre it so that it fills its frame as objects fill the training renders.

        Args:
            picture: A file, or a PIL picture of any mode.
            background: How the object is cut out, one of `vfusion3d.preprocessing.STRATEGIES`.
            background_weights: The ONNX file of the strategies ``rembg`` and ``birefnet``.
            check: Refuse several objects and one that is cut off.

        Raises:
            InputImageError: if the picture cannot be used.
            UsageError, CheckpointError, MissingExtraError: as `vfusion3d.preprocessing.centre_picture`.
        """
        return centre_picture(picture, self.size, rig_border(self.rig), background, background_weights, check)

    @torch.no_grad()
    def __call__(
        self,
        pictures: Picture | Sequence[Picture],
        text: str | Sequence[str | None] | None = None,
        seed: int | Sequence[int] = 0,
        *,
        elevation: float | Sequence[float] = 0.0,
        check: bool = True,
        progress: Progress | None = None,
    ) -> Tensor:
        """Orbits of one object or several; an object's orbit is the same alone and among others.

        Args:
            pictures: One or a sequence of: picture files and PIL pictures, which are prepared (`prepare`); pictures
                that are already; and tensors ``[3, H, W]`` in [0, 1] of centred objects on white, taken as they are.
                A tensor ``[B, 3, H, W]`` is B of them.
            text: What the pictures show: one text for all, or one for each.
            seed: Decides the noise: one for all, or one for each.
            elevation: Degrees above the horizon from which the pictures were taken, one for all or one for each; only
                models that are told cameras (``backbone.reads_cameras``) use it.
            check: As in `prepare`.
            progress: Told the steps done and in all.

        Returns:
            Frames in [0, 1], ``[F, 3, H, W]`` of one picture, else ``[B, F, 3, H, W]``. Frame k is at azimuth
            ``direction * 2 pi k / F`` of the rig.

        Raises:
            InputImageError: if a picture cannot be used.
            UsageError: if an argument does not fit.
        """
        single = isinstance(pictures, (str, Path, Image.Image, CentredPicture)) or (
            isinstance(pictures, Tensor) and pictures.ndim == 3
        )
        several: Sequence[Picture] = [pictures] if single else list(pictures)  # type: ignore[list-item, arg-type]
        count = len(several)
        if count == 0:
            raise UsageError("Argument `pictures` is empty; give at least one picture.")
        first = [self._first_frame(picture, check) for picture in several]
        if len({frame.shape for frame in first}) > 1:
            raise UsageError("Pictures of one call must have one size; bring tensors to the size of the others.")
        images = torch.stack(first).to(self.device)
        texts, seeds = _each("text", text, count), _each("seed", seed, count)
        conditioning = self.backbone.condition(images, texts if any(texts) else None)
        conditioning = self._with_cameras(conditioning, _each("elevation", elevation, count))
        generators = [torch.Generator().manual_seed(number) for number in seeds]
        shape = (self.rig.frames, *conditioning.image.shape[1:])
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        latents = sample_latents(
            self.backbone,
            conditioning,
            noise.to(self.device),
            steps=self.steps,
            solver=self.solver,
            guidance=self.guidance,
            has_text=torch.tensor([bool(words) for words in texts]),
            eta=self.eta,
            generators=generators,
            together=self.together,
            progress=progress,
        )
        frames = self.backbone.decode(latents).float()
        return frames[0] if single else frames

    def _first_frame(self, picture: Picture, check: bool) -> Tensor:
        if isinstance(picture, Tensor):
            if picture.ndim != 3 or picture.shape[0] != 3:
                raise UsageError(
                    f"Pictures as tensors must be RGB of shape [3, H, W], but got the shape {list(picture.shape)}."
                )
            return picture.float().cpu()
        prepared = picture if isinstance(picture, CentredPicture) else self.prepare(picture, check=check)
        return prepared.on_white()

    def _with_cameras(self, conditioning: Conditioning, elevations: Sequence[float]) -> Conditioning:
        if not self.backbone.reads_cameras:
            return conditioning
        vectors = torch.stack([self.rig.cameras(math.radians(degrees)).vectors for degrees in elevations])
        return dataclasses.replace(conditioning, cameras=vectors.to(conditioning.image))


def _each(name: str, value: Any, count: int) -> list[Any]:
    """One value for all, or one for each, as a list.

    Raises:
        UsageError: if there are more or fewer than pictures.
    """
    if value is None or isinstance(value, (str, int, float)):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise UsageError(f"Argument `{name}` must be one for all or one for each of {count}, but has {len(values)}.")
    return values
