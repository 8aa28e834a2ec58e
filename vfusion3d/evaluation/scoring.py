"""A method under a protocol: inputs out, predictions in, a row per view, and the floors beside them."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vfusion3d.alpha import over_white, rgb_pixels
from vfusion3d.cameras import Cameras
from vfusion3d.data.scenes import TRANSFORMS, Scene
from vfusion3d.errors import SceneError, UsageError, VFusion3DError
from vfusion3d.evaluation.environment import environment
from vfusion3d.evaluation.floors import NEAREST, PASTED, WHITE, NearestViews
from vfusion3d.evaluation.groups import SEEN, group_of
from vfusion3d.evaluation.kept import claim, kept_or
from vfusion3d.evaluation.methods import EvaluationItem, Method
from vfusion3d.evaluation.protocol import Protocol
from vfusion3d.evaluation.results import FIGURES, METHOD, Results, Row
from vfusion3d.meshes.readers import UpAxis
from vfusion3d.metrics import foreground_psnr, mask_iou, masks_on_white, psnr, ssim
from vfusion3d.outputs import make_folder

SILHOUETTE_TOLERANCE = 0.15
"""A channel farther than this from white is a silhouette's. Of .03 to .3 this one agrees best with the masks where both
are known; what compression makes of white is less."""
_TOO_SMALL, _TOO_LARGE = -0.25, 2.0  # what overshoots is clipped; what was meant in [-1, 1] or 0 to 255 is not white
_SHEET_VIEWS = 5

Lpips = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Truth:
    """The true views of an object: on white, in 8 bits, ``[V, 3, H, W]``, and their opacities ``[V, 1, H, W]``."""

    rgb: Tensor
    opacity: Tensor


def truth_of(scene: Scene) -> Truth:
    """All true views."""
    rgba = scene.images()
    return Truth(_in_8_bits(over_white(rgba)), rgba[:, 3:])


def item_of(name: str, scene: Scene, protocol: Protocol) -> EvaluationItem:
    """What a method gets of a scene."""
    views = tuple(protocol.scored)
    cameras = scene.cameras[list(views)]
    return EvaluationItem(name, scene.image(0), scene.cameras[0], cameras, views, scene.height, protocol.border)


def scored_part(truth: Truth, protocol: Protocol) -> Truth:
    """Of all true views those that are scored."""
    views = list(protocol.scored)
    return Truth(truth.rgb[views], truth.opacity[views])


def score_views(
    prediction: Tensor, truth: Truth, protocol: Protocol, lpips: Lpips | None = None
) -> list[dict[str, float | None]]:
    """Figures of each scored view.

    Some methods give opacities, others pictures on white. One rule is for all, or their figures would not compare:
    silhouettes are what is not white (`silhouettes`), of the predicted and of the true views alike; a true view without
    one, of something white, has no IoU. ``foreground_psnr`` has the errors where either has a silhouette or the true
    object is, per pixel of the true object.

    Args:
        prediction: Scored views on white, in [0, 1], ``[V, 3, H, W]``.
        truth: The same views.
        protocol: Alignment.
        lpips: Distance of pictures in [0, 1], ``[V, 3, H, W]`` twice -> ``[V]``; None leaves LPIPS out.

    Raises:
        UsageError: if the prediction has another shape, or values that are no numbers.
    """
    if prediction.shape != truth.rgb.shape:
        raise UsageError(
            f"The prediction has shape {list(prediction.shape)}, but the protocol's is {list(truth.rgb.shape)}."
        )
    if not torch.isfinite(prediction).all():
        raise UsageError("The prediction has NaN or infinite values.")
    low, high = (float(value) for value in prediction.aminmax())
    if low < _TOO_SMALL or high > _TOO_LARGE:
        raise UsageError(f"The prediction has values from {low:g} to {high:g}; pictures must be in [0, 1].")
    rgb, true_silhouettes = _in_8_bits(prediction), silhouettes(truth.rgb)
    if protocol.alignment == "silhouette-scale":
        rgb = _in_8_bits(magnified(rgb, silhouettes(rgb), true_silhouettes))
    predicted = silhouettes(rgb)
    true_foreground = (truth.opacity > 0.5) | true_silhouettes
    iou = mask_iou(predicted.float(), true_silhouettes.float())
    columns = {
        "psnr": psnr(rgb, truth.rgb),
        "foreground_psnr": foreground_psnr(rgb, truth.rgb, true_foreground | predicted, true_foreground),
        "ssim": ssim(rgb, truth.rgb),
        "iou": iou.where(true_silhouettes.flatten(1).any(1), math.nan),
    }
    if lpips is not None:
        columns["lpips"] = lpips(rgb, truth.rgb)
    return [
        {name: None if math.isnan(column[k]) else float(column[k]) for name, column in columns.items()}
        for k in range(len(rgb))
    ]


def silhouettes(rgb: Tensor) -> Tensor:
    """What is not white in pictures ``[V, 3, H, W]``, its holes filled: bool ``[V, 1, H, W]``."""
    return masks_on_white(rgb, SILHOUETTE_TOLERANCE)[:, None]


def _in_8_bits(rgb: Tensor) -> Tensor:
    """Pictures clipped and rounded as files hold them, so that a method's figures are not those of its file format."""
    return (rgb.clamp(0, 1) * 255).round() / 255


def magnified(rgb: Tensor, silhouette: Tensor, wanted: Tensor) -> Tensor:
    """Predictions magnified about the picture's centre, all views alike, so that silhouettes have the true area.

    Where the model is free to choose the object's size this takes the choice out of the figure (and out of what the
    figure says): the square root of the ratio of areas, over all views together.
    """
    area, true_area = float(silhouette.sum()), float(wanted.sum())
    if not area or not true_area:
        return rgb
    share = math.sqrt(area / true_area)
    count, _, height, width = rgb.shape
    theta = torch.tensor([[share, 0.0, 0.0], [0.0, share, 0.0]]).to(rgb).expand(count, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, [count, 1, height, width], align_corners=False)
    # White is nothing, also beyond the picture.
    return 1 - torch.nn.functional.grid_sample(1 - rgb, grid, align_corners=False)


def truth_key(scene: Scene) -> str:
    """What a scene shows, from its files' content.

    Raises:
        SceneError: if one of them cannot be read.
    """
    digest = hashlib.sha256()
    for file in (TRANSFORMS, *scene.files):
        try:
            digest.update((scene.folder / file).read_bytes())
        except OSError as error:
            raise SceneError(
                f"The true view {scene.folder / file} cannot be read ({error.strerror or error}); render the object "
                f"again (remove {scene.folder} where it is of a cache)."
            ) from error
    return digest.hexdigest()[:16]


def evaluate(
    method: Method,
    scenes: Mapping[str, Scene],
    protocol: Protocol,
    output: Path | None = None,
    unseen: Collection[str] | None = None,
    lpips: Lpips | None = None,
    seen: Collection[str] | None = None,
    meshes: Mapping[str, Path] | None = None,
    up: UpAxis = "y",
) -> Results:
    """Score a method on objects, with the floors.

    Args:
        method: What is scored; an object on which it raises a `VFusion3DError`, or predicts NaN, counts as failed. Its
            attribute ``device``, if it has one, tells the hardware.
        scenes: True views by object (`render_targets`).
        protocol: The protocol.
        output: Folder in which each finished object is kept, so that a run that was cut off goes on; None: nowhere.
            What failed, was cut short, or is of other true views is scored anew.
        unseen: Names of objects that the method was not trained on, kept apart from the others; None: not known.
        lpips: As in `score_views`; its attribute ``identity``, if it has one, tells its weights.
        seen: Names of objects that it was trained on; None: all that are not unseen.
        meshes: True meshes by object, of which the floor of the nearest seen object is drawn where each object has
            cameras of its own; None: that floor is missing there.
        up: Up axis of their files.

    Raises:
        UsageError: if ``output`` has objects of another method or protocol.
        OutputError: if it cannot be written.
    """
    folder = None if output is None else make_folder(output / "objects")
    machine = environment(getattr(method, "device", None))
    weights = None if lpips is None else str(getattr(lpips, "identity", "unknown"))
    if output is not None:
        facts = {"protocol": protocol.hash, "method": method.description, "content": method.identity}
        claim(output, {**facts, "lpips": weights})
    groups = {name: group_of(name, unseen, seen) for name in scenes}
    nearest = NearestViews(scenes, [name for name in scenes if groups[name] == SEEN], protocol, meshes, up)
    missing = nearest.missing
    rows: dict[str, list[Row]] = {METHOD: [], WHITE: [], PASTED: [], **({} if NEAREST in missing else {NEAREST: []})}
    seconds, truths = {}, {}
    for name, scene in tqdm(scenes.items(), desc=protocol.name, unit="object", file=sys.stderr):
        truths[name] = truth_key(scene)
        kept = None if folder is None else folder / f"{name}.json"
        views = cache(partial(truth_of, scene))  # read once, and not at all where everything is kept
        make = partial(_score_object, method, name, scene, views, protocol, lpips, folder)
        done = kept_or(kept, truths[name], ("figures", "seconds"), make)
        seconds[name] = done["seconds"]
        figures = dict(done["figures"])
        if not missing:  # which of the others were seen is no part of what is kept
            figures[NEAREST] = _nearest_figures(nearest.of(name), views, protocol, lpips)
        azimuths = azimuths_from(scene.cameras)
        for of, part in figures.items():
            for view, numbers in zip(protocol.scored, part, strict=True):
                head = {"object": name, "group": groups[name], "view": view, "azimuth": azimuths[view]}
                rows[of].append({**head, "failed": done["failed"] if of == METHOD else None, **numbers})
    return Results(protocol, method.description, rows, truths, machine, seconds, missing, weights)


def _score_object(
    method: Method,
    name: str,
    scene: Scene,
    views: Callable[[], Truth],
    protocol: Protocol,
    lpips: Lpips | None,
    folder: Path | None,
) -> dict[str, Any]:
    """Figures of the method and of the floors that need nothing else, why it failed, and the prediction's seconds."""
    item, every = item_of(name, scene, protocol), views()
    truth = scored_part(every, protocol)
    empty = torch.ones_like(truth.rgb)
    failed, prediction = None, empty
    start = time.perf_counter()
    try:
        prediction = method.predict(item)
        taken = time.perf_counter() - start
        figures = score_views(prediction, truth, protocol, lpips)
    except VFusion3DError as error:
        taken = time.perf_counter() - start
        failed, prediction, figures = str(error), empty, score_views(empty, truth, protocol, lpips)
    floors = {WHITE: empty, PASTED: every.rgb[:1].expand_as(truth.rgb)}
    scored = {METHOD: figures, **{of: score_views(floor, truth, protocol, lpips) for of, floor in floors.items()}}
    if folder is not None:
        sheet(prediction, truth, every).save(folder / f"{name}.png")
    return {"seconds": taken, "failed": failed, "figures": scored}


def _nearest_figures(
    nearest: Tensor | None, views: Callable[[], Truth], protocol: Protocol, lpips: Lpips | None
) -> list[dict[str, float | None]]:
    """Figures of the nearest seen object's views, as if they were predicted of this one; None each if there is none."""
    if nearest is None:
        return [dict.fromkeys(FIGURES) for _ in protocol.scored]
    return score_views(nearest, scored_part(views(), protocol), protocol, lpips)


def azimuths_from(cameras: Cameras) -> list[float]:
    """Azimuth of each camera from the first one's, degrees in [0, 360)."""
    x, y, _ = cameras.centers.double().unbind(-1)
    degrees = torch.rad2deg(torch.atan2(y, x))
    return [round(float(value), 3) % 360 for value in (degrees - degrees[0]) % 360]


def sheet(prediction: Tensor, truth: Truth, every: Truth) -> Image.Image:
    """The input with true views above, predictions below."""
    shown = np.linspace(0, len(truth.rgb) - 1, min(_SHEET_VIEWS, len(truth.rgb))).round().astype(int).tolist()
    rgb = prediction.clamp(0, 1).nan_to_num(0)
    above = torch.cat([every.rgb[0], *truth.rgb[shown]], -1)
    below = torch.cat([torch.ones_like(every.rgb[0]), *rgb[shown]], -1)
    return Image.fromarray(rgb_pixels(torch.cat([above, below], -2)))
