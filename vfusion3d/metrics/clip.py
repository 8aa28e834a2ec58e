"""How like CLIP (Radford et al. 2021) finds pictures and texts: cosine similarities, times nothing.

Numbers of different models, prompts and backgrounds are different numbers; published ones are often times 100, or
times 2.5 (CLIPScore).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.errors import CheckpointError, MissingExtraError, MissingWeightsError
from vfusion3d.metrics.per_object import PerObjectMetric

_CHUNK = 32  # pictures or texts embedded at once
_FILES = ("*.json", "*.txt", "*.safetensors")


class ClipPixels(NamedTuple):
    """What a CLIP model does to a picture first, from its own settings."""

    size: tuple[int, int]
    """Height and width that it reads."""
    edge: int | None
    """What the shorter side is resized to before the centre is cropped; None: the picture is squashed to ``size``."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    """Or ``bilinear``."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Resize pictures ``[N, 3, H, W]`` in [0, 1] (antialiased, clipped), crop the centre, normalise."""
        height, width = pictures.shape[-2:]
        size, shorter = self.size, min(height, width)
        if self.edge is not None:
            size = (self.edge * height // shorter, self.edge * width // shorter)
        resized = F.interpolate(pictures.float(), size, mode=self.interpolation, antialias=True).clamp(0, 1)
        top, left = (size[0] - self.size[0]) // 2, (size[1] - self.size[1]) // 2
        cropped = resized[..., top : top + self.size[0], left : left + self.size[1]]
        mean, std = (cropped.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (cropped - mean) / std


class _Loaded(NamedTuple):
    """A model of either library."""

    model: Any
    preprocess: ClipPixels
    embed_pixels: Callable[[Tensor], Tensor]
    embed_texts: Callable[[list[str]], Tensor]


class ClipNetwork:
    """A CLIP model of transformers or open_clip; no module, so never saved with a metric.

    Args:
        name: Without ``pretrained`` a model of transformers, as ``openai/clip-vit-large-patch14`` on the Hugging Face
            hub or a folder that ``save_pretrained`` wrote (safetensors weights only); else one of open_clip, such as
            ``ViT-B-32``. OpenAI's ViT-B/32 is ``("ViT-B-32", "openai")``.
        pretrained: A tag of open_clip, such as ``laion2b_s34b_b79k``, or a local checkpoint file of it. For a file of
            weights trained with QuickGELU the name has to end in ``-quickgelu``; of a tag that is known.
        dtype: Of the weights; pictures are resized in float32 and similarities are float32 whatever it is.

    Attributes:
        preprocess: What is done to pictures first.

    Raises:
        MissingExtraError: if open_clip is needed and not installed.
        MissingWeightsError: if the weights are not on this machine and cannot be downloaded.
        CheckpointError: if there is no such model, or its files cannot be used.
    """

    def __init__(self, name: str, pretrained: str | Path | None = None, dtype: torch.dtype = torch.float32) -> None:
        loaded = _from_transformers(name) if pretrained is None else _from_open_clip(name, str(pretrained))
        self.model, self.preprocess, self._embed_pixels, self._embed_texts = loaded
        self.name, self.dtype = name if pretrained is None else f"{name} {pretrained}", dtype
        self.model.to(dtype).eval().requires_grad_(False)

    @torch.no_grad()
    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """Unit vectors ``[..., D]``, float32, of pictures ``[..., 3, H, W]`` in [0, 1] on white.

        Raises:
            ValueError: if they are not of floating type, not RGB, or hold NaN or infinite numbers.
        """
        if not pictures.is_floating_point() or pictures.ndim < 3 or pictures.shape[-3] != 3:
            raise ValueError(
                "CLIP needs RGB pictures [..., 3, H, W] of floating type in [0, 1], but got "
                f"{list(pictures.shape)} of {pictures.dtype}."
            )
        if not pictures.isfinite().all():
            raise ValueError("Pictures for CLIP hold NaN or infinite numbers.")
        if next(self.model.parameters()).device != pictures.device:
            self.model.to(pictures.device)
        flat = pictures.reshape(-1, *pictures.shape[-3:]).clamp(0, 1).split(_CHUNK)
        vectors = torch.cat([self._embed_pixels(self.preprocess(part).to(self.dtype)) for part in flat])
        return F.normalize(vectors.float(), dim=-1).view(*pictures.shape[:-3], -1)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors ``[N, D]``, float32, of texts as they are; what is longer than the model's context is cut."""
        vectors = [self._embed_texts(list(texts[k : k + _CHUNK])) for k in range(0, len(texts), _CHUNK)]
        return F.normalize(torch.cat(vectors).float(), dim=-1)


def _from_transformers(name: str) -> _Loaded:
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    from vfusion3d.video.loading import check_weights, first_sentence, load_component, silent

    folder = _find_folder(name)
    check_weights(folder)
    model: Any = load_component(folder, "", CLIPModel)
    try:
        if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json")):
            raise FileNotFoundError("no tokenizer.json or vocab.json")  # transformers would make one up
        with silent():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            images = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of many types
        raise CheckpointError(
            f"{name} holds no tokenizer and image processor of CLIP that can be read ({first_sentence(error)}): copy "
            "or download it again."
        ) from error

    def embed_pixels(pixels: Tensor) -> Tensor:
        return model.visual_projection(model.vision_model(pixels).pooler_output)  # type: ignore[no-any-return]

    def embed_texts(texts: list[str]) -> Tensor:
        length = model.config.text_config.max_position_embeddings
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        inputs = inputs.to(model.device)
        states = model.text_model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).pooler_output
        return model.text_projection(states)  # type: ignore[no-any-return]

    size, crop = dict(images.size), dict(images.crop_size)
    edge = size.get("shortest_edge")
    read = crop if edge is not None else size
    pixels = ClipPixels((read["height"], read["width"]), edge, tuple(images.image_mean), tuple(images.image_std))
    return _Loaded(model, pixels, embed_pixels, embed_texts)


def _find_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download

    from vfusion3d.hub import hub_answers, hub_errors

    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "~", "/")) or name.count("/") > 1 or not name:
        raise CheckpointError(
            f"There is no folder {name!r}: give one that `save_pretrained` wrote, owner/name on the Hugging Face hub, "
            "or a name and tag of open_clip."
        )
    instead = "give a folder that `save_pretrained` wrote"
    with hub_errors(name, what="CLIP model", files="config.json", instead=instead):
        offline = not hub_answers(name, "config.json")
        return Path(snapshot_download(name, allow_patterns=list(_FILES), local_files_only=offline))


def _from_open_clip(name: str, pretrained: str) -> _Loaded:
    if importlib.util.find_spec("open_clip") is None:
        raise MissingExtraError("CLIP models of open_clip need open_clip: pip install 'vfusion3d[clip]'.")
    import open_clip

    if name not in open_clip.list_models():
        raise CheckpointError(f"open_clip has no model {name!r}; `open_clip.list_models()` names those it has.")
    tag, local = open_clip.get_pretrained_cfg(name, pretrained), Path(pretrained).expanduser()
    if not (tag or local.is_file()):
        raise CheckpointError(
            f"{pretrained!r} is neither a file nor a tag of open_clip's {name}, which are "
            f"{', '.join(open_clip.list_pretrained_tags_by_model(name)) or 'none'}."
        )
    try:
        model = open_clip.create_model(
            name, pretrained if tag else str(local), force_quick_gelu=bool(tag.get("quick_gelu"))
        )
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # of many types
        said = " ".join(str(error).split())[:250].rstrip(".")
        if tag:
            raise MissingWeightsError(
                f"The weights {pretrained!r} of open_clip's {name} are not on this machine and cannot be downloaded "
                f"({said}): connect to the network, or give a local checkpoint file."
            ) from error
        raise CheckpointError(f"{local} cannot be loaded as a checkpoint of open_clip's {name} ({said}).") from error
    settings = open_clip.get_model_preprocess_cfg(model)
    if settings["interpolation"] not in ("bicubic", "bilinear") or settings["resize_mode"] == "longest":
        raise CheckpointError(
            f"open_clip's {name} resizes pictures otherwise ({settings['interpolation']}, {settings['resize_mode']}) "
            "than this metric can; choose another model."
        )
    side = settings["size"]
    size = (side, side) if isinstance(side, int) else (side[0], side[1])
    edge = None if settings["resize_mode"] == "squash" else max(size)

    def embed_texts(texts: list[str]) -> Tensor:
        device = next(model.parameters()).device
        return model.encode_text(tokenizer(texts).to(device))  # type: ignore[no-any-return]

    pixels = ClipPixels(size, edge, tuple(settings["mean"]), tuple(settings["std"]), settings["interpolation"])
    return _Loaded(model, pixels, model.encode_image, embed_texts)


def clip_similarity(pictures: Tensor, references: Sequence[str] | Tensor, network: ClipNetwork) -> Tensor:
    """Cosine (factor 1) between CLIP's embeddings of pictures and of their objects' texts or pictures.

    Args:
        pictures: Of B objects, ``[B, ..., 3, H, W]`` in [0, 1], on white.
        references: B texts as they are, with whatever template the protocol asks for; or pictures
            ``[B, 3, H, W]`` of any size, one of each object, or ``[B, ..., 3, H, W]``, one of each picture.
        network: Made once (`ClipNetwork`).

    Returns:
        In [-1, 1], float32, ``[B, ...]``.

    Raises:
        ValueError: if there are not as many references as objects, or pictures cannot be used
            (`ClipNetwork.embed_pictures`).
    """
    if isinstance(references, str) or len(references) != len(pictures):
        given = "one text" if isinstance(references, str) else len(references)
        raise ValueError(f"Argument `references` must hold one for each of {len(pictures)} objects, but got {given}.")
    with torch.autocast(pictures.device.type, enabled=False):
        views = network.embed_pictures(pictures)
        if isinstance(references, Tensor):
            others = network.embed_pictures(references)
        else:
            others = network.embed_texts(references)
    others = others.view(len(others), *[1] * (views.ndim - others.ndim), *others.shape[1:])
    return (views * others).sum(-1)


class ClipSimilarity(PerObjectMetric):
    """Means of `clip_similarity`: over an object's views the similarities are averaged, not the embeddings, then over
    objects, each counted once (`PerObjectMetric`).

    Args:
        network: The model; it is no part of the metric's state.
        settings: As of every `torchmetrics.Metric`.
    """

    NAMES = ("clip_similarity",)

    def __init__(self, network: ClipNetwork, **settings: Any) -> None:
        super().__init__(**settings)
        self.network = network

    def update(self, pictures: Tensor, references: Sequence[str] | Tensor, objects: Tensor) -> None:
        """Score B objects; ``[B, V, 3, H, W]``, ``references`` as in `clip_similarity`, ``objects`` int64, ``[B]``."""
        similarity = clip_similarity(pictures, references, self.network)
        self.record(objects, {"clip_similarity": similarity.flatten(1).mean(1)})
