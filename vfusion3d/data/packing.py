"""What goes into a shard set: scene folders, and procedural objects on orbits."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import torch

from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import MAX_ELEVATION, Cameras, Rig, fit_radius, fov_from_focal, orbit
from vfusion3d.data.procedural import LICENCE as PROCEDURAL_LICENCE
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.randomness import sample_generator
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import Scene
from vfusion3d.data.shard_writer import Item, encode
from vfusion3d.data.views_dataset import Items
from vfusion3d.errors import SceneError

PROCEDURAL_FOV = 40.0
_ELEVATION_STREAM = 10
CAMERA_OFFSET = 0.05  # the paper's, in world units, for renders that keep their cameras
_ORBIT_SHIFT, _ORBIT_TURN = 0.12, 0.06  # world units and radians by which jittered renders may leave their orbit


def fit_rig(sources: Sequence[Items], advice: str) -> Rig:
    """The rig that orbits share, as their true cameras show it.

    Args:
        sources: Renders whose frame k is at azimuth s 2 pi k / F, looking at the origin, but for a little jitter.
        advice: What to do about an item that is no such orbit, for the message.

    Raises:
        SceneError: naming the item whose cameras are no such orbit or another rig's.
    """
    places = [(items, item) for items in sources for item in range(len(items))]
    orbits = [items.cameras(item) for items, item in places]
    radii = torch.cat([cameras.centers.norm(dim=-1) for cameras in orbits])
    focal = torch.cat([cameras.intrinsics[:, 0] for cameras in orbits])
    first = orbits[0].azimuths
    turn = float(torch.remainder(first[1 % len(first)] - first[0] + math.pi, 2 * math.pi) - math.pi)
    radius, fov = round(float(radii.median()), 4), round(fov_from_focal(float(focal.median())), 4)
    rig = Rig(radius, fov, 1 if turn >= 0 else -1, len(first))
    for (items, item), cameras in zip(places, orbits, strict=True):
        if len(cameras) != rig.frames:
            raise SceneError(
                f"The {items.name(item)} has {len(cameras)} pictures, but the {sources[0].name(0)} {rig.frames}; "
                "orbits that are used together share one rig."
            )
        nominal = orbit(rig.frames, orbit_elevation(cameras), rig.radius, rig.fov, direction=rig.direction)
        shift = float((cameras.centers - nominal.centers).norm(dim=-1).max())
        turned = float((cameras.poses - nominal.poses)[..., :3].norm(dim=(-2, -1)).max()) / math.sqrt(2)
        lens = float((cameras.intrinsics - nominal.intrinsics).abs().max())
        if shift > _ORBIT_SHIFT or turned > _ORBIT_TURN or lens > 0.02:
            raise SceneError(
                f"The {items.name(item)} is no orbit of {rig.frames} frames around the origin that starts at azimuth "
                f"0, at distance {rig.radius:.4g} with a field of view of {rig.fov:.4g} degrees (off by {shift:.3g} "
                f"units and {math.degrees(turned):.3g} degrees); {advice}."
            )
    return rig


def orbit_elevation(cameras: Cameras) -> float:
    """The elevation in radians that an orbit is labelled with: the median of its cameras'."""
    return round(float(cameras.elevations.median()), 6)


def scene_items(
    folders: Sequence[Path], rig: Rig | None, skip: Collection[str], failed: Callable[[Path, SceneError], None]
) -> Iterator[Item]:
    """Scene folders as items; PNG files become lossless WebP, which decodes faster, others stay as they are.

    Args:
        folders: The folders; their names are the keys.
        rig: The rig to claim instead of the scenes' cameras, or None to keep those.
        skip: Keys that are packed already.
        failed: Told about each scene that cannot be used, which is left out.
    """
    for folder in folders:
        if folder.name in skip:
            continue
        try:
            scene = Scene.load(folder)
            scene.cameras.validate()
            frames = [_picture(scene, index) for index in range(len(scene))]
        except SceneError as error:
            failed(folder, error)
            continue
        except ValueError as error:
            failed(folder, SceneError(f"The cameras of {folder} cannot be used: {error}"))
            continue
        columns = {
            "elevation": orbit_elevation(scene.cameras) if rig else float(scene.cameras.elevations[0]),
            "prompt": scene.info.caption,
            "licence": scene.info.licence,
            "source": scene.info.source,
        }
        yield Item(folder.name, frames, (scene.height, scene.width), None if rig else scene.cameras, columns)


def _picture(scene: Scene, index: int) -> bytes:
    """The file of a picture that can be read."""
    pixels, content = scene.pixels(index), (scene.folder / scene.files[index]).read_bytes()
    return encode(pixels) if content.startswith(b"\x89PNG") else content


def procedural_rig(frames: int = 16) -> Rig:
    """The rig of procedural orbits: the unit sphere just fits the frame."""
    return Rig(round(fit_radius(PROCEDURAL_FOV), 4), PROCEDURAL_FOV, 1, frames)


def procedural_key(seed: int) -> str:
    """The key of the object of a seed."""
    return f"procedural_{seed:08d}"


def procedural_items(
    count: int,
    resolution: int,
    rig: Rig,
    keep_cameras: bool,
    seed: int,
    skip: Collection[str],
    kinds: Sequence[str] | None = None,
) -> Iterator[Item]:
    """Procedural objects on orbits of random elevation in [0, pi/4].

    Args:
        count: Number of objects.
        resolution: Height and width of the pictures.
        rig: Distance, field of view, direction and number of frames.
        keep_cameras: Whether cameras are moved a little, as in rendered data, and kept; otherwise they are exactly
            the rig's, which the set claims.
        seed: Object k is that of seed ``seed + k``.
        skip: Keys that are packed already.
        kinds: As `sample_object`.
    """
    for number in range(seed, seed + count):
        key = procedural_key(number)
        if key in skip:
            continue
        generator = sample_generator(number, 0, 0, _ELEVATION_STREAM)
        elevation = float(torch.rand((), generator=generator)) * MAX_ELEVATION
        noise = CAMERA_OFFSET if keep_cameras else 0.0
        cameras = orbit(rig.frames, elevation, rig.radius, rig.fov, 0.0, rig.direction, noise, generator)
        objects = sample_objects(torch.tensor([number]), kinds=kinds)
        frames = [
            encode(straight_pixels(render(objects, cameras[None, k : k + 1], resolution, resolution)[0, 0]))
            for k in range(rig.frames)  # one at a time: the memory of a view, not of an orbit
        ]
        columns = {
            "elevation": elevation,
            "prompt": "a procedural object",
            "seed": number,
            "licence": PROCEDURAL_LICENCE,
            "source": "vfusion3d procedural",
        }
        yield Item(key, frames, (resolution, resolution), cameras if keep_cameras else None, columns)
