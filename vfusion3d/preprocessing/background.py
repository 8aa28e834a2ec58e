"""Cutting the object out of its picture, by one of several strategies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from vfusion3d.errors import InputImageError, UsageError
from vfusion3d.preprocessing.heuristic import heuristic_cut
from vfusion3d.preprocessing.networks import MODELS, load_network, network_alpha
from vfusion3d.preprocessing.salience import object_warnings, salient_alpha

STRATEGIES = ("auto", "alpha", "heuristic", *MODELS)

ALPHA_METHOD = "alpha channel of the picture"
HEURISTIC_METHOD = "offline heuristic: border colours, Gaussian mixtures and a minimum cut; not a learned matting model"

TRANSPARENT_SHARE = 0.005
FOREGROUND_SHARE = 0.0001
DOUBT = 0.045  # benchmarks/backgrounds.py and a look at real cut-outs


@dataclass(frozen=True)
class Cutout:
    """An object cut out of its picture.

    Args:
        rgba: Straight-alpha RGBA picture of the size of the original.
        method: How the background was told apart, in words for a report.
        doubtful: Whether the strategy has reason to doubt its own mask.
        warnings: What looks wrong, one sentence each: a doubtful mask, several parts, an object cut off or small.
    """

    rgba: Image.Image
    method: str
    doubtful: bool = False
    warnings: tuple[str, ...] = ()


def remove_background(
    picture: Image.Image,
    name: str = "The picture",
    strategy: str = "auto",
    weights: str | Path | None = None,
) -> Cutout:
    """Cut the object out.

    Args:
        picture: RGBA picture with straight alpha, as from `read_picture`.
        name: What messages call the picture.
        strategy: ``alpha``, the picture's own transparency, untouched; ``heuristic``, offline and without weights,
            for plain backgrounds; ``rembg`` (isnet-general-use, as in the paper) or ``birefnet``, matting networks
            from a local file; ``auto``, ``alpha`` if the picture has a transparent part, else ``heuristic``.
            The heuristic and the networks read a picture with transparent parts as it looks on white.
        weights: The ONNX file of ``rembg`` or ``birefnet``, which need one.

    Raises:
        InputImageError: if the picture is fully transparent, no foreground is found, or ``alpha`` is asked of a
            picture without a transparent part.
        UsageError: if there is no such strategy or ``weights`` does not go with it.
        CheckpointError: if the weight file cannot be used.
        MissingExtraError: if the extra ``rembg`` is not installed.
    """
    check_strategy(strategy, weights)
    alpha = np.asarray(picture.getchannel("A"))
    if alpha.max() < 8:
        raise InputImageError(f"{name} is fully transparent; give a picture in which the object is visible.")
    transparent = float((alpha < 128).mean()) > TRANSPARENT_SHARE
    if strategy == "alpha" or (strategy == "auto" and transparent):
        if not transparent:
            raise InputImageError(
                f"{name} has no transparent part, which the background strategy 'alpha' goes by; choose 'auto'."
            )
        if (alpha >= 128).mean() < FOREGROUND_SHARE:
            raise InputImageError(f"{name} has no foreground: nearly all of it is transparent; crop it to the object.")
        return _finish(picture, ALPHA_METHOD, name)
    white = Image.new("RGBA", picture.size, "white")
    opaque = Image.alpha_composite(white, picture).convert("RGB")
    if strategy in MODELS:
        assert weights is not None
        soft = salient_alpha(network_alpha(load_network(strategy, str(weights)), opaque))
        if (soft > 0.5).mean() < FOREGROUND_SHARE:
            raise InputImageError(
                f"{name} has no foreground that the network '{strategy}' finds; crop it to the object."
            )
        return _finish(_cut_out(opaque, soft), f"matting network {MODELS[strategy]} ({Path(weights).name})", name)
    found = heuristic_cut(np.asarray(opaque, dtype=np.float32) / 255)
    if found is None:
        raise InputImageError(
            f"{name} has no foreground that the offline background removal can find; "
            "give a picture of one object on a plain background, or one with a transparent background."
        )
    return _finish(_cut_out(opaque, found.alpha), HEURISTIC_METHOD, name, found.doubt > DOUBT)


def _finish(rgba: Image.Image, method: str, name: str, doubtful: bool = False) -> Cutout:
    warnings = object_warnings(np.asarray(rgba.getchannel("A")) / 255, name)
    if doubtful:
        warnings.insert(
            0,
            f"{name} is hard for the offline background removal: object and background share colours; look at the "
            "cut-out, and if it is wrong give a picture with a transparent background or choose the background "
            "'rembg'.",
        )
    return Cutout(rgba, method, doubtful, tuple(warnings))


def check_strategy(strategy: str, weights: str | Path | None = None) -> None:
    """Refuse what cannot work with any picture; a network is loaded, and kept for the pictures to come.

    Raises:
        UsageError: if there is no such strategy, a network has no weights or weights have no network.
        CheckpointError: if the weight file cannot be used.
        MissingExtraError: if the extra ``rembg`` is not installed.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"Background strategy '{strategy}' is unknown; choose from {', '.join(STRATEGIES)}.")
    if strategy in MODELS and weights is None:
        raise UsageError(
            f"Background strategy '{strategy}' needs the file {MODELS[strategy]}.onnx of rembg's releases, which is "
            "never downloaded by itself; name it with --background-weights (argument `background_weights`)."
        )
    if strategy not in MODELS and weights is not None:
        raise UsageError(
            f"Background weights '{weights}' are of no use to the strategy '{strategy}'; "
            f"choose {' or '.join(MODELS)} with --background (argument `background`)."
        )
    if weights is not None:
        load_network(strategy, str(weights))


def _cut_out(picture: Image.Image, alpha: np.ndarray) -> Image.Image:
    """An RGB picture with an opacity; pixels that hold background colour too take the nearest sure one's.

    Args:
        picture: RGB.
        alpha: Opacity in [0, 1], ``[H, W]``.

    Returns:
        Straight-alpha RGBA; outside the object are the nearest object colours.
    """
    rgb = np.asarray(picture)
    sure = alpha > 0.95
    if sure.any():
        nearest = ndimage.distance_transform_edt(~sure, return_distances=False, return_indices=True)
        rgb = np.where(sure[..., None], rgb, rgb[nearest[0], nearest[1]])
    soft = (alpha * 255 + 0.5).astype(np.uint8)
    return Image.fromarray(np.concatenate([rgb, soft[..., None]], -1))
