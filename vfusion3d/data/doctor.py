"""What is wrong with the views of an object, found before a GPU hour is spent on them.

`examine` reads a folder in any layout and returns findings, each with a name that stays the same between versions:

- ``unreadable``: the cameras cannot be read at all.
- ``missing-view``, ``unreadable-view``, ``different-size``, ``duplicate-view``, ``empty-view``: the picture files.
- ``invalid-poses``: not a number, or no rotation and shift. ``mirrored-poses``: a reflection.
- ``poses-are-inverted``: world-to-camera for camera-to-world or the reverse. ``axes-are-flipped``: OpenCV's camera
  axes for OpenGL's or the reverse.
- ``off-centre``, ``scale``: the object is not around the origin, or not of the size of the unit sphere.
- ``not-upright``: the world's up axis is not +Z.
- ``scattered-cameras``, ``stray-camera``: the cameras, or a few of them, do not look at one object.
- ``silhouettes-disagree``: the cameras do not belong to the pictures (order, direction of turn, field of view).
- ``background``: the background is not transparent. ``cut-off``: the object reaches beyond the frame.
- ``depth-channels``, ``missing-depth``: the depth files.

Poses that turn out inverted or flipped are read the right way for the checks after that, so that one mistake is
one finding.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vfusion3d.cameras import Cameras
from vfusion3d.data.layouts import Layout, Reading, Views, read_views
from vfusion3d.errors import SceneError

_GRID = 64  # silhouettes are compared at this many cells a side
_VOXELS = 48  # a side of the grid that silhouettes carve
_CARVING_VIEWS = 16
_LOOKS = 25.0  # degrees between a camera's axis and what it looks at that are still looking
_SIZES = (0.75, 1.9)  # radius of an object that is as large as expected; a cube of half side 1 has 1.73
_ONE_AXIS = 0.65  # the smallest |cosine| between viewing axes with which all views look along one axis
_FRAMES = (0.5, 3.0)  # the same for the sphere that fits the frame, where there are no silhouettes
_COVERED = 0.975  # the share of a silhouette, by what all silhouettes leave of space


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Args:
        name: Stable, from the list in `vfusion3d.data.doctor`.
        message: One sentence: what is wrong and what to do.
    """

    name: str
    message: str


def examine(folder: str | os.PathLike[str], layout: Layout | None = None, fov: float | None = None) -> list[Finding]:
    """Examine the views of one object.

    Args:
        folder: The object's folder.
        layout: Its layout, by default by what lies in it.
        fov: Field of view in degrees, for layouts that do not store it.

    Returns:
        What is wrong, an empty list if all is well.

    Raises:
        UsageError: if ``fov`` does not fit the layout.

    Example:
        >>> [finding.name for finding in examine("no such folder")]
        ['unreadable']
    """
    try:
        views = read_views(folder, layout, fov)
    except SceneError as error:
        return [Finding("unreadable", str(error))]
    looks = [_look_at(views, index) for index in range(len(views))]
    findings = [
        *_check_files(views, looks),
        *_check_sizes(views, looks),
        *_check_duplicates(views, looks),
        *_check_background(looks),
        *_check_depths(views),
    ]
    usable, wrong = _check_matrices(views.cameras)
    findings += wrong
    if not usable:
        return findings

    def cameras_read(reading: Reading) -> Cameras:
        return read_views(folder, views.layout, fov, reading).cameras[usable]

    cameras, wrong = _check_reading(cameras_read, views.layout)
    findings += wrong
    if cameras is None:
        return findings
    seen = [looks[index] for index in usable]
    stray, wrong = _check_strays(cameras, usable)
    findings += wrong
    good = [index for index in range(len(usable)) if index not in stray]
    if not good:
        return findings
    cameras, seen, numbers = cameras[good], [seen[index] for index in good], [usable[index] for index in good]
    findings += _check_upright(cameras)
    placed = _check_place(cameras, seen)
    return findings + placed + _check_silhouettes(cameras, seen, numbers)


# -- pictures --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Look:
    """What a picture file holds, small enough to be kept for every view.

    ``coverage`` ``[64, 64]`` is the share of opaque pixels per cell, or None without a silhouette; ``rim`` is the
    share of opaque pixels along the picture's border and ``colour`` their median.
    """

    error: str | None = None
    missing: bool = False
    size: tuple[int, int] = (0, 0)
    coverage: np.ndarray | None = None
    transparent: float = 0.0
    rim: float = 0.0
    colour: tuple[int, int, int] = (0, 0, 0)
    digest: str = ""

    @property
    def has_silhouette(self) -> bool:
        return self.coverage is not None and self.rim <= 0.5 and bool((self.coverage > 0.5).any())


def _look_at(views: Views, index: int) -> _Look:
    try:
        pixels = views.pixels(index)
    except SceneError as error:
        return _Look(str(error), not views.images[index].is_file())
    opaque = pixels[..., 3] > 127
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    cells = Image.fromarray(opaque.astype(np.float32)).resize((_GRID, _GRID), Image.Resampling.BOX)
    red, green, blue = (int(value) for value in np.median(rim[:, :3], axis=0))
    return _Look(
        size=(pixels.shape[1], pixels.shape[0]),
        coverage=np.asarray(cells),
        transparent=float((~opaque).mean()),
        rim=float((rim[:, 3] > 127).mean()),
        colour=(red, green, blue),
        digest=hashlib.sha256(pixels.tobytes()).hexdigest(),
    )


def _check_files(views: Views, looks: Sequence[_Look]) -> list[Finding]:
    findings = []
    missing = [index for index, look in enumerate(looks) if look.missing]
    if missing:
        findings.append(
            Finding(
                "missing-view",
                f"{_pictures(missing, views)} missing; render or copy them again, or take them out of the cameras.",
            )
        )
    broken = [index for index, look in enumerate(looks) if look.error and not look.missing]
    if broken:
        findings.append(
            Finding("unreadable-view", f"{looks[broken[0]].error} This holds for {_views(broken)}; render them again.")
        )
    empty = [i for i, look in enumerate(looks) if look.coverage is not None and not (look.coverage > 0).any()]
    if empty:
        findings.append(
            Finding(
                "empty-view", f"{_pictures(empty, views)} wholly transparent; check the camera, or leave the views out."
            )
        )
    return findings


def _check_sizes(views: Views, looks: Sequence[_Look]) -> list[Finding]:
    read = {index: look.size for index, look in enumerate(looks) if look.error is None}
    for index, size in read.items():
        stated = views.sizes[index]
        if stated is not None and stated != size:
            return [
                Finding(
                    "different-size",
                    f"The picture {views.images[index].name} is {size[0]} x {size[1]} pixels, but its camera is stated "
                    f"for {stated[0]} x {stated[1]}; resize it, or correct the size and the intrinsics.",
                )
            ]
    sizes = sorted(set(read.values()), key=lambda size: sum(other == size for other in read.values()))
    if len(sizes) > 1:
        odd = [index for index, size in read.items() if size == sizes[0]]
        return [
            Finding(
                "different-size",
                f"The pictures have {len(sizes)} sizes ({_pictures(odd, views)} {sizes[0][0]} x {sizes[0][1]}, others "
                f"{sizes[-1][0]} x {sizes[-1][1]}); a scene needs one, resize them.",
            )
        ]
    return []


def _check_duplicates(views: Views, looks: Sequence[_Look]) -> list[Finding]:
    """One file or pose twice; or a picture equal to the one before, as a renderer that did not refresh leaves it.

    Pictures that are all equal are left to the silhouettes: a ball looks the same from everywhere.
    """
    first: dict[Path, int] = {}
    for index, image in enumerate(views.images):
        if image in first:
            message = f"Views {first[image]} and {index} are the same file {image.name}; drop one of them."
            return [Finding("duplicate-view", message)]
        first[image] = index
    vectors = views.cameras.vectors
    for index in range(len(views) - 1):
        same = ((vectors[index + 1 :] - vectors[index]).abs().amax(-1) < 1e-6).nonzero()
        if len(same):
            other = index + 1 + int(same[0])
            return [Finding("duplicate-view", f"Views {index} and {other} have the same camera; drop one of them.")]
    digests = [look.digest for look in looks]
    if len(set(digests)) > 1:
        for index, (before, here) in enumerate(pairwise(digests)):
            if here and here == before and looks[index].has_silhouette:
                pair = f"{views.images[index].name} and {views.images[index + 1].name}"
                message = f"The pictures {pair} are equal although their cameras differ; render them again."
                return [Finding("duplicate-view", message)]
    return []


def _check_background(looks: Sequence[_Look]) -> list[Finding]:
    findings = []
    read = [look for look in looks if look.error is None]
    opaque = [index for index, look in enumerate(looks) if look.error is None and look.rim > 0.5]
    if opaque:
        inside = [look for look in looks if look.error is None and look.rim > 0.5 and look.transparent > 0.02]
        colours = np.array([looks[index].colour for index in opaque])
        spread = int((colours.max(0) - colours.min(0)).max())
        if len(inside) == len(opaque):
            what = "the border is opaque and what is inside is not, so the mask is inverted or of something else"
        elif spread > 12:
            what = "their borders have different colours"
        else:
            red, green, blue = (int(value) for value in np.median(colours, axis=0))
            what = f"their borders have the colour ({red}, {green}, {blue})"
        findings.append(
            Finding(
                "background",
                f"The background of {_views(opaque)} of {len(looks)} is not transparent, {what}; render with a "
                "transparent film or cut the object out.",
            )
        )
    cut = [look for look in read if 0.1 < look.rim <= 0.5]
    if len(cut) * 2 > len(read):
        findings.append(
            Finding(
                "cut-off",
                f"The object reaches beyond the frame in {len(cut)} of {len(read)} views; render from farther away or "
                "with a larger field of view.",
            )
        )
    return findings


def _check_depths(views: Views) -> list[Finding]:
    findings = []
    files = [depth for depth in views.depths if depth is not None]
    if not files:
        return []
    missing = [index for index, depth in enumerate(views.depths) if depth is None or not depth.is_file()]
    if missing:
        findings.append(
            Finding("missing-depth", f"{_views(missing).capitalize()} have no depth file; give all views one or none.")
        )
    channels = {file: _channels(file) for file in files if file.is_file()}
    wrong = [file for file, count in channels.items() if count != 1]
    if wrong:
        findings.append(
            Finding(
                "depth-channels",
                f"The depth file {wrong[0].name} ({len(wrong)} of {len(files)} files) has {channels[wrong[0]]} "
                "channels where depth is one number a pixel; save it with a single channel (16 bits, or .npy).",
            )
        )
    return findings


def _channels(file: Path) -> int:
    """Channels of a depth file, 0 if it cannot be read."""
    try:
        if file.suffix == ".npy":
            array = np.load(file, allow_pickle=False, mmap_mode="r")
            return 1 if array.ndim == 2 else int(array.shape[-1])
        with Image.open(file) as picture:
            return 3 if picture.mode == "P" else len(picture.getbands())
    except (OSError, ValueError, SyntaxError):
        return 0


# -- poses -----------------------------------------------------------------------------------------------------
def _check_matrices(cameras: Cameras) -> tuple[list[int], list[Finding]]:
    """The views whose poses are rigid motions, and what is wrong with the others."""
    invalid, mirrored, usable = [], [], []
    for index in range(len(cameras)):
        pose, rotation = cameras.poses[index], cameras.poses[index, :, :3]
        error = (rotation.T @ rotation - torch.eye(3, dtype=rotation.dtype)).abs().max()
        if not bool(torch.isfinite(pose).all()) or float(error) > 1e-3:
            invalid.append(index)
        elif float(torch.linalg.det(rotation)) < 0:
            mirrored.append(index)
        else:
            usable.append(index)
    findings = []
    if invalid:
        stretch = cameras.poses[invalid[0], :, :3].norm(dim=0)
        finite = bool(torch.isfinite(cameras.poses[invalid[0]]).all())
        why = f"its axes have lengths {', '.join(f'{x:.3g}' for x in stretch.tolist())}" if finite else "not a number"
        findings.append(
            Finding(
                "invalid-poses",
                f"The poses of {_views(invalid)} are no rotation and shift ({why}); divide a scale out or export them "
                "again.",
            )
        )
    if mirrored:
        findings.append(
            Finding(
                "mirrored-poses",
                f"The poses of {_views(mirrored)} contain a reflection (determinant -1); an axis was negated or two "
                "were swapped, undo it.",
            )
        )
    return usable, findings


def _check_reading(cameras_read: Callable[[Reading], Cameras], layout: Layout) -> tuple[Cameras | None, list[Finding]]:
    """The cameras in the reading in which they look at the object, and what that reading says about the files."""
    origin = torch.zeros(3, dtype=torch.float64)
    cameras = cameras_read(Reading())
    if float(_angles(cameras, origin).median()) <= _LOOKS:
        return cameras, []
    readings = [Reading(), Reading(inverted=True), Reading(flipped=True), Reading(inverted=True, flipped=True)]
    options = [cameras_read(reading) for reading in readings]
    angles = [float(_angles(option, origin).median()) for option in options]
    best = min(range(len(readings)), key=angles.__getitem__)
    if angles[best] > _LOOKS:  # not at the origin: is there another point that they look at?
        best = next((index for index, option in enumerate(options) if _meeting(option) is not None), -1)
        if best < 0:
            message = "The cameras look neither at the origin nor at another common point; check the calibration."
            return None, [Finding("scattered-cameras", message)]
    findings = []
    if readings[best].inverted:
        stored, wanted = "world-to-camera", "camera-to-world"
        if layout in ("instantmesh", "objaverse"):
            stored, wanted = wanted, stored
        findings.append(
            Finding(
                "poses-are-inverted",
                f"The poses are {stored} where {layout} has {wanted}: the cameras look at the object only when they "
                "are inverted; use `vfusion3d data convert --inverted`.",
            )
        )
    if readings[best].flipped:
        stored, wanted = ("OpenGL", "OpenCV") if layout == "lgm" else ("OpenCV", "OpenGL")
        findings.append(
            Finding(
                "axes-are-flipped",
                f"The camera axes are {stored}'s where {layout} has {wanted}'s: the cameras look away from the object "
                "unless y and z are negated; use `vfusion3d data convert --flipped`.",
            )
        )
    return options[best], findings


def _angles(cameras: Cameras, target: Tensor) -> Tensor:
    """Degrees between each camera's viewing axis and the direction to a point ``[3]``, ``[V]``."""
    to_target = torch.nn.functional.normalize(target - cameras.centers, dim=-1)
    return torch.rad2deg(torch.acos((-cameras.poses[..., 2] * to_target).sum(-1).clamp(-1, 1)))


def _nearest_point(origins: Tensor, directions: Tensor) -> Tensor:
    """The point nearest to lines, ``[3]``; of parallel lines, the one nearest to the origin."""
    identity = torch.eye(3, dtype=origins.dtype)
    across = identity - directions[:, :, None] * directions[:, None, :]
    matrix = across.mean(0) + 1e-6 * identity
    return torch.linalg.solve(matrix, (across @ origins[..., None]).mean(0)[:, 0])


def _meeting(cameras: Cameras) -> Tensor | None:
    """The point ``[3]`` that the cameras look at, or None if there is none in front of them."""
    centers = cameras.centers
    point = _nearest_point(centers, cameras.poses[..., 2])
    distance = (point - centers).norm(dim=-1).median()
    spread = (centers - centers.mean(0)).norm(dim=-1).median()
    # Inverted poses of an orbit all have about the same centre.
    if float(spread) < 0.1 * float(distance) or float(distance) < 1e-6:
        return None
    return point if float(_angles(cameras, point).median()) <= _LOOKS / 2 else None


def _target(cameras: Cameras) -> Tensor:
    """What the cameras look at: the origin, or where their axes meet."""
    origin = torch.zeros(3, dtype=torch.float64)
    if float(_angles(cameras, origin).median()) <= _LOOKS:
        return origin
    point = _meeting(cameras)
    return origin if point is None else point


def _check_strays(cameras: Cameras, numbers: Sequence[int]) -> tuple[set[int], list[Finding]]:
    """The positions of the few cameras that look elsewhere than the others."""
    away = (_angles(cameras, _target(cameras)) > 2 * _LOOKS).nonzero().flatten().tolist()
    if not away:
        return set(), []
    message = f"The cameras of {_views([numbers[k] for k in away])} look away from the object that the others look at; "
    return set(away), [Finding("stray-camera", message + "correct their poses or leave the views out.")]


def _check_upright(cameras: Cameras) -> list[Finding]:
    """Upright cameras have a horizontal x axis and an y axis that rises, which tells the world's up axis."""
    tilt = cameras.poses[..., 0].abs().median(0).values
    rising = cameras.poses[..., 1].sign().mean(0)  # 1: all pictures' upper edges are towards +, -1: towards -
    if float(tilt[2]) < 0.2 and float(rising[2]) < -0.8:
        what, remedy = "-Z", "turn the pictures and the cameras, or the world, by 180 degrees"
    elif float(tilt[2]) >= 0.2 and float(tilt[1]) < 0.05 and float(rising[1]) > 0.8:
        what, remedy = "+Y", "use `vfusion3d data convert --up y`"
    elif float(tilt[2]) >= 0.2 and float(tilt[1]) < 0.05 and float(rising[1]) < -0.8:
        what, remedy = "-Y", "turn the world by 90 degrees about X"
    else:
        return []  # well, or cameras as photographers hold them, which tell nothing
    return [Finding("not-upright", f"The world's up axis seems to be {what}, where +Z is expected; {remedy}.")]


# -- place and size --------------------------------------------------------------------------------------------
def _check_place(cameras: Cameras, looks: Sequence[_Look]) -> list[Finding]:
    """Where the object is and how large, from its silhouettes or else from what the cameras frame."""
    masked = [index for index, look in enumerate(looks) if look.has_silhouette]
    if len(masked) * 2 > len(looks):
        cameras, looks = cameras[masked], [looks[index] for index in masked]
        silhouettes = [cameras[k].rays(_GRID, _GRID)[1][_inside(look)] for k, look in enumerate(looks)]
        middles = torch.nn.functional.normalize(torch.stack([rays.mean(0) for rays in silhouettes]), dim=-1)
        beside = [_passing(middles[k : k + 1], -cameras.centers[k]) for k in range(len(looks))]
        width = [_passing(rays, middles[k] * cameras.centers[k].norm()) for k, rays in enumerate(silhouettes)]
        middle = torch.zeros(3, dtype=torch.float64)
        if float(np.median(beside)) > 0.5 * max(width):
            middle = _nearest_point(cameras.centers, middles)
        # The object reaches at least as far from its middle as its outermost rays pass by.
        radius = max(_passing(rays, middle - cameras.centers[k]) for k, rays in enumerate(silhouettes))
        limits, what = _SIZES, "the object reaches"
        if float((middles @ middles.T).abs().min()) > _ONE_AXIS:  # its length may be along the axis
            limits = (_SIZES[0] / 3, _SIZES[1])
    else:
        middle = _target(cameras)
        half = 0.5 / cameras.intrinsics[..., :2].amax(-1)
        radius = float(((cameras.centers - middle).norm(dim=-1) * half / (1 + half**2).sqrt()).median())
        limits, what = _FRAMES, "the frames show what is up to"
    findings = []
    if float(middle.norm()) > 0.25 * radius:
        x, y, z = (f"{number:.3g}" for number in middle.tolist())
        findings.append(
            Finding(
                "off-centre",
                f"The object is around ({x}, {y}, {z}) and not around the origin; use `vfusion3d data convert --centre "
                f"{x} {y} {z}`.",
            )
        )
    if not limits[0] <= radius <= limits[1]:
        findings.append(
            Finding(
                "scale",
                f"The world has another scale: {what} {radius:.3g} from its middle, where 1 is expected; use "
                f"`vfusion3d data convert --scale {1 / radius:.3g}`.",
            )
        )
    return findings


def _passing(rays: Tensor, offset: Tensor) -> float:
    """The largest distance at which rays from one origin, unit ``[N, 3]``, pass the point at ``offset`` from it."""
    along = (rays @ offset)[:, None] * rays
    return float((offset - along).norm(dim=-1).max())


def _inside(look: _Look, least: float = 0.5) -> Tensor:
    """The cells of which more than ``least`` is opaque, ``[64, 64]``."""
    assert look.coverage is not None
    return torch.from_numpy(look.coverage > least)


# -- silhouettes -----------------------------------------------------------------------------------------------
def _check_silhouettes(cameras: Cameras, looks: Sequence[_Look], numbers: Sequence[int]) -> list[Finding]:
    """Carve space with all silhouettes: what is left must fill each of them again.

    An object that is its own mirror image hides a turn in the wrong direction.
    """
    masked = [index for index, look in enumerate(looks) if look.has_silhouette]
    if len(masked) < 3:
        return []
    masked = [masked[k] for k in np.unique(np.linspace(0, len(masked) - 1, _CARVING_VIEWS).round().astype(int))]
    cameras, names = cameras[masked], [numbers[index] for index in masked]
    inside = torch.stack([_inside(looks[index]) for index in masked])
    touched = torch.stack([_inside(looks[index], 0.0) for index in masked])
    cells, seen, outside = _carve(cameras, touched)
    enough = seen.sum(0) * 2 >= len(masked)
    misses = outside.sum(0)
    covered = _covered(inside, cells, seen, enough & (misses == 0))
    if float(covered.mean()) >= _COVERED:
        return []
    # Without the one view that is wrong, the others agree.
    scores = []
    for view in range(len(masked)):
        others = [index for index in range(len(masked)) if index != view]
        kept = enough & ((misses - outside[view].long()) == 0)
        scores.append(float(_covered(inside, cells, seen, kept)[others].mean()))
    worst = int(np.argmax(scores))
    if len(masked) > 3 and scores[worst] >= _COVERED and sorted(scores)[-2] < _COVERED:
        what = f"The silhouette of view {names[worst]} contradicts those of all others; correct its camera or picture."
    else:
        what = (
            f"The silhouettes contradict each other: what is inside all of them fills {float(covered.mean()):.0%} of "
            "each; the cameras do not belong to these pictures (check their order, the direction of the turn, the "
            "field of view and the poses)."
        )
    return [Finding("silhouettes-disagree", what)]


def _carve(cameras: Cameras, touched: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A grid of points around what is looked at, seen from all views.

    Args:
        cameras: ``[V]``.
        touched: The cells with something of the object, ``[V, 64, 64]``.

    Returns:
        Of each point in each view ``[V, points]``: its cell's number, whether it is in the frame, and whether it is
        there but outside of the silhouette.
    """
    target = _target(cameras)
    distance = (cameras.centers - target).norm(dim=-1)
    half = float((distance * 0.5 / cameras.intrinsics[..., :2].amin(-1)).median())
    axis = (torch.arange(_VOXELS, dtype=torch.float32) + 0.5) / _VOXELS * 2 - 1
    points = torch.cartesian_prod(axis, axis, axis) * half + target.float()
    near = torch.nn.functional.max_pool2d(touched.float()[:, None], 3, 1, 1)[:, 0] > 0  # a point stands for its voxel
    uv, depth = cameras.to(torch.float32).project(points.expand(len(cameras), -1, 3))
    place = (uv * _GRID).floor().nan_to_num(-1)
    seen = (depth > 0) & (place >= 0).all(-1) & (place < _GRID).all(-1)
    cells = (place[..., 1] * _GRID + place[..., 0]).clamp(0, _GRID * _GRID - 1).long()
    return cells, seen, seen & ~near.flatten(1).gather(1, cells)


def _covered(inside: Tensor, cells: Tensor, seen: Tensor, kept: Tensor) -> Tensor:
    """Share ``[V]`` of each silhouette ``[V, 64, 64]`` that the kept points ``[points]`` cover."""
    drawn = torch.zeros(len(inside), _GRID * _GRID)
    for view in range(len(inside)):
        drawn[view, cells[view, kept & seen[view]]] = 1.0
    wide = torch.nn.functional.max_pool2d(drawn.unflatten(1, (1, _GRID, _GRID)), 3, 1, 1)[:, 0] > 0
    return (wide & inside).flatten(1).sum(1) / inside.flatten(1).sum(1)


# -- words -----------------------------------------------------------------------------------------------------
def _views(indices: Sequence[int]) -> str:
    if len(indices) == 1:
        return f"view {indices[0]}"
    shown = ", ".join(str(index) for index in indices[:5])
    return f"views {shown} and {len(indices) - 5} more" if len(indices) > 5 else f"views {shown}"


def _pictures(indices: Sequence[int], views: Views) -> str:
    """The subject of a sentence."""
    names = [views.images[index].name for index in indices]
    if len(names) == 1:
        return f"The picture {names[0]} is"
    shown = ", ".join(names[:3])
    return f"The pictures {shown}{f' and {len(names) - 3} more' if len(names) > 3 else ''} are"
