"""Cameras of other projects, from and to `Cameras`.

Ours: world +Z up, front on +X, camera axes x right, y up, looking along -z (OpenGL), intrinsics divided by the
image size. Each function states the world and the camera axes of the other side. All but the JSON documents
work on tensors of any batch shape and keep their type and device. Lengths are never rescaled: where a project
wants its cameras at a certain distance, use `rescaled`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vfusion3d.cameras.camera import Cameras, focal_from_fov
from vfusion3d.cameras.orbits import on_sphere, pinhole
from vfusion3d.errors import SceneError

# Rotations from our world into another's, row by row.
_TO_OPENLRM = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
_TO_Y_UP = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))

Zero123PlusVersion = Literal["1.1", "1.2"]
# Elevations of the even and odd views and the field of view, degrees.
_ZERO123PLUS = {"1.1": ((30.0, -20.0), 2 * math.degrees(math.atan(16 / 35))), "1.2": ((20.0, -10.0), 30.0)}


def rescaled(cameras: Cameras, factor: Tensor | float) -> Cameras:
    """The cameras that take the same pictures of a world ``factor`` (a number or ``[...]``) times as large."""
    factor = torch.as_tensor(factor, dtype=cameras.dtype, device=cameras.device)
    centers = cameras.centers * factor[..., None]
    return Cameras(torch.cat([cameras.poses[..., :3], centers[..., None]], -1), cameras.intrinsics)


# -- OpenCV, COLMAP, projection matrices -------------------------------------------------------------------
def from_opencv(poses: Tensor, k: Tensor, width: int, height: int) -> Cameras:
    """Cameras from OpenCV camera-to-world poses.

    World: ours (turn it yourself if the calibration has another up axis). Camera: x right, y down, looking
    along +z (OpenCV, COLMAP).

    Args:
        poses: Camera-to-world, ``[..., 3, 4]`` or ``[..., 4, 4]``.
        k: ``[[fx, s, cx], [0, fy, cy], [0, 0, 1]]`` in pixels, ``[..., 3, 3]``, with pixel (0, 0) centred at
            (0.5, 0.5). Add 0.5 to cx and cy of calibrations that put that centre at (0, 0).
        width: Image width in pixels.
        height: Image height in pixels.

    Raises:
        ValueError: if a shape does not fit, or the skew ``s`` is not negligible.

    Example:
        >>> k = torch.tensor([[100.0, 0.0, 64.0], [0.0, 100.0, 48.0], [0.0, 0.0, 1.0]])
        >>> cameras = from_opencv(torch.eye(4), k, width=128, height=96)
        >>> cameras.poses[:, 2].tolist()  # backward: OpenCV looks along +z
        [-0.0, -0.0, -1.0]
    """
    return Cameras(_flip_camera(_three_rows(poses, "poses")), _from_pixels(k, width, height))


def to_opencv(cameras: Cameras, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Inverse of `from_opencv`: poses ``[..., 4, 4]`` (camera-to-world) and K ``[..., 3, 3]`` in pixels."""
    poses = Cameras(_flip_camera(cameras.poses), cameras.intrinsics).matrices
    return poses, _to_pixels(cameras.intrinsics, width, height)


def from_opencv_w2c(matrices: Tensor, k: Tensor, width: int, height: int) -> Cameras:
    """Cameras from OpenCV world-to-camera matrices ``[R | t]``, ``x_camera = R x_world + t``.

    World, camera axes, other arguments and errors as in `from_opencv`; ``matrices`` are ``[..., 3, 4]`` or
    ``[..., 4, 4]``.
    """
    return from_opencv(_inverted(_three_rows(matrices, "matrices")), k, width, height)


def to_opencv_w2c(cameras: Cameras, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Inverse of `from_opencv_w2c`: matrices ``[..., 4, 4]`` (world-to-camera) and K ``[..., 3, 3]`` in pixels."""
    flip = cameras.poses.new_tensor([1.0, -1.0, -1.0, 1.0])[:, None]
    return cameras.world_to_camera * flip, _to_pixels(cameras.intrinsics, width, height)


def from_projection(matrices: Tensor, width: int, height: int) -> Cameras:
    """Cameras from projection matrices ``P = K [R | t]`` of any scale and sign, OpenCV axes and pixels.

    World and camera axes, pixel centres and the errors are those of `from_opencv`.

    Args:
        matrices: ``[..., 3, 4]``.
        width: Width in pixels of the images that P projects into.
        height: Height of the same.
    """
    if matrices.shape[-2:] != (3, 4):
        raise ValueError(f"Argument `matrices` must have shape [..., 3, 4], but got {list(matrices.shape)}.")
    left = matrices[..., :3]
    matrices = matrices * torch.linalg.det(left).sign()[..., None, None]
    # RQ decomposition from QR: reversing rows turns a lower triangle into an upper one.
    q, r = torch.linalg.qr(matrices[..., :3].flip(-2).transpose(-1, -2))
    k, rotation = r.transpose(-1, -2).flip(-2, -1), q.transpose(-1, -2).flip(-2)
    sign = k.diagonal(dim1=-2, dim2=-1).sign()
    k, rotation = k * sign[..., None, :], rotation * sign[..., None]
    translation = torch.linalg.solve(k, matrices[..., 3:])
    return from_opencv_w2c(torch.cat([rotation, translation], -1), k / k[..., 2:, 2:], width, height)


def from_w2c(matrices: Tensor, intrinsics: Tensor) -> Cameras:
    """Cameras from OpenGL world-to-camera matrices; the inverse is `Cameras.world_to_camera`.

    World: ours. Camera: ours (x right, y up, looking along -z).

    Args:
        matrices: World-to-camera, ``[..., 3, 4]`` or ``[..., 4, 4]``.
        intrinsics: Normalised ``(fx, fy, cx, cy)``, ``[..., 4]``.

    Raises:
        ValueError: if a shape does not fit.
    """
    return Cameras(_inverted(_three_rows(matrices, "matrices")), intrinsics)


# -- nerfstudio, NeRF-synthetic ------------------------------------------------------------------------------
def from_transforms(document: Mapping[str, Any], size: tuple[int, int] | None = None) -> Cameras:
    """Cameras of a nerfstudio or NeRF-synthetic ``transforms.json``, one per frame, float32 ``[frames]``.

    World: +Z up in both, taken as it is, so the front is on +X in documents written by this library and
    wherever the capture put it in others. Camera: ours (OpenGL).

    Args:
        document: The parsed JSON: ``fl_x, fl_y, cx, cy`` in pixels with ``w, h``, or ``camera_angle_x`` (and
            ``camera_angle_y``) in radians with a centred principal point; each shared or in its frame.
        size: ``(width, height)`` in pixels for documents without ``w`` and ``h``.

    Raises:
        SceneError: if a number is missing or not finite, a matrix is not rigid, a camera model is no pinhole
            or a lens distortion is not zero.
    """
    frames = document.get("frames") if isinstance(document, Mapping) else None
    if not isinstance(frames, list) or not frames:
        raise SceneError("transforms.json has no `frames`; it must list at least one.")
    poses, intrinsics = [], []
    for number, frame in enumerate(frames):
        try:
            pose = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
            numbers = torch.tensor(_transforms_intrinsics({**document, **frame}, size), dtype=torch.float64)
            Cameras(_three_rows(pose, "transform_matrix"), numbers).validate()
        except KeyError as error:
            raise SceneError(f"Frame {number} of transforms.json has no {error}; add it.") from None
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise SceneError(f"Frame {number} of transforms.json cannot be used: {error}") from None
        poses.append(pose[:3])
        intrinsics.append(numbers)
    return Cameras(torch.stack(poses), torch.stack(intrinsics)).to(torch.float32)


def to_transforms(cameras: Cameras, file_paths: Sequence[str], width: int, height: int) -> dict[str, Any]:
    """A nerfstudio ``transforms.json`` document, the inverse of `from_transforms`.

    Args:
        cameras: ``[frames]``. Equal intrinsics are written once, others in each frame.
        file_paths: The pictures, relative to the document, one per camera.
        width: Image width in pixels.
        height: Image height in pixels.

    Raises:
        ValueError: if the numbers of cameras and pictures differ.
    """
    if len(cameras.shape) != 1 or len(cameras) != len(file_paths):
        raise ValueError(
            f"Argument `file_paths` must name one picture per camera, but got {len(file_paths)} for cameras of "
            f"shape {list(cameras.shape)}."
        )
    pixels = cameras.intrinsics.double().cpu() * torch.tensor([width, height, width, height])
    per_frame = [dict(zip(("fl_x", "fl_y", "cx", "cy"), row, strict=True)) for row in pixels.tolist()]
    shared = all(row == per_frame[0] for row in per_frame)
    return {
        "camera_model": "PINHOLE",
        "w": width,
        "h": height,
        **(per_frame[0] if shared and per_frame else {}),
        "frames": [
            {"file_path": path, **({} if shared else own), "transform_matrix": matrix}
            for path, own, matrix in zip(file_paths, per_frame, cameras.matrices.tolist(), strict=True)
        ],
    }


# -- released models -----------------------------------------------------------------------------------------
def from_render_vectors(vectors: Tensor) -> Cameras:
    """Cameras from the 25 numbers by which VFusion3D, OpenLRM and InstantMesh describe a rendered view.

    World: the model's own (VFusion3D's and InstantMesh's are ours: +Z up, front on +X; OpenLRM's front is on
    -Y). Camera: ours (OpenGL).

    Args:
        vectors: A 4 x 4 camera-to-world pose row by row, then the 3 x 3 K divided by the image size,
            ``[..., 25]``.

    Raises:
        ValueError: if the shape does not fit.
    """
    if vectors.shape[-1:] != (25,):
        raise ValueError(f"Argument `vectors` must have shape [..., 25], but got {list(vectors.shape)}.")
    k = vectors[..., 16:].unflatten(-1, (3, 3))
    return Cameras(vectors[..., :12].unflatten(-1, (3, 4)), _from_pixels(k, 1, 1))


def to_render_vectors(cameras: Cameras) -> Tensor:
    """Inverse of `from_render_vectors`, ``[..., 25]``; the 16 numbers of a source view are `Cameras.vectors`."""
    return torch.cat([cameras.matrices.flatten(-2), _to_pixels(cameras.intrinsics, 1, 1).flatten(-2)], -1)


def from_openlrm(poses: Tensor, intrinsics: Tensor) -> Cameras:
    """Cameras from the poses and intrinsics of OpenLRM's data folders and code.

    World: +Z up, front on -Y, object in ``[-1, 1]^3``. Camera: ours (OpenGL).

    Args:
        poses: Camera-to-world, ``[..., 3, 4]``.
        intrinsics: ``[[fx, fy], [cx, cy], [width, height]]`` in pixels, ``[..., 3, 2]``.

    Raises:
        ValueError: if a shape does not fit.
    """
    if intrinsics.shape[-2:] != (3, 2):
        raise ValueError(f"Argument `intrinsics` must have shape [..., 3, 2], but got {list(intrinsics.shape)}.")
    turn = poses.new_tensor(_TO_OPENLRM).transpose(-1, -2)
    return Cameras(turn @ _three_rows(poses, "poses"), (intrinsics[..., :2, :] / intrinsics[..., 2:, :]).flatten(-2))


def to_openlrm(cameras: Cameras, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Inverse of `from_openlrm`: poses ``[..., 3, 4]`` and intrinsics ``[..., 3, 2]`` in pixels.

    Example:
        >>> from vfusion3d.cameras import orbit
        >>> poses, intrinsics = to_openlrm(orbit(views=4, radius=2.0), width=512, height=512)
        >>> poses[0, :, 3].round(decimals=3).tolist()  # the front camera
        [0.0, -2.0, 0.0]
    """
    size = cameras.intrinsics.new_tensor([width, height])
    pixels = cameras.intrinsics.unflatten(-1, (2, 2)) * size
    poses = cameras.poses.new_tensor(_TO_OPENLRM) @ cameras.poses
    return poses, torch.cat([pixels, size.expand(*cameras.shape, 1, 2)], -2)


def from_instantmesh(vectors: Tensor) -> Cameras:
    """Cameras from the 16 numbers of InstantMesh's input views (pose row by row, then fx, fy, cx, cy).

    World: ours (+Z up, the input picture's azimuth 0 on +X, object in ``[-1, 1]^3``). Camera: ours (OpenGL).
    Its rendered views are `from_render_vectors`, those of its mesh variant `from_w2c`; its input views are
    ``zero123plus_views("1.2", radius=4.0)``.

    Args:
        vectors: ``[..., 16]``, intrinsics divided by the image size.

    Raises:
        ValueError: if the shape does not fit.
    """
    return Cameras.from_vectors(vectors)


def to_instantmesh(cameras: Cameras) -> Tensor:
    """Inverse of `from_instantmesh`, ``[..., 16]``."""
    return cameras.vectors


def from_lgm(poses: Tensor, fovy: Tensor | float) -> Cameras:
    """Cameras from LGM's camera-to-world poses (before it flips them for its rasteriser).

    World: +Y up, front on +Z, azimuth from +Z towards +X; LGM puts its cameras at distance 1.5 (see
    `rescaled`) and gives elevations above the horizon a negative sign. Camera: ours (OpenGL).

    Args:
        poses: Camera-to-world, ``[..., 3, 4]`` or ``[..., 4, 4]``.
        fovy: Field of view in degrees of the square images, a number or ``[...]``; LGM uses 49.1.

    Raises:
        ValueError: if a shape does not fit.
    """
    rows = _three_rows(poses, "poses")
    turned = rows.new_tensor(_TO_Y_UP).transpose(-1, -2) @ rows
    angle = torch.as_tensor(fovy, dtype=rows.dtype, device=rows.device)
    focal = 0.5 / torch.tan(torch.deg2rad(angle) / 2)
    centre = torch.full_like(focal, 0.5)
    return Cameras(turned, torch.stack([focal, focal, centre, centre], -1))


def to_lgm(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Inverse of `from_lgm`: poses ``[..., 4, 4]`` and the field of view in degrees ``[...]``.

    Raises:
        ValueError: if a camera is not a centred square one, which LGM cannot express.
    """
    fx, fy, cx, cy = cameras.intrinsics.unbind(-1)
    if bool(((fx - fy).abs() > 1e-4 * fx).any() | ((cx - 0.5).abs() > 1e-4).any() | ((cy - 0.5).abs() > 1e-4).any()):
        raise ValueError("LGM's cameras have equal focal lengths and a centred principal point, but these do not.")
    turn = cameras.poses.new_tensor(_TO_Y_UP)
    poses = Cameras(turn @ cameras.poses, cameras.intrinsics).matrices
    return poses, torch.rad2deg(2 * torch.atan(0.5 / fy))


# -- Zero123++ -----------------------------------------------------------------------------------------------
def zero123plus_views(
    version: Zero123PlusVersion = "1.2", source_azimuth: float = 0.0, radius: float | None = None
) -> Cameras:
    """The six views that Zero123++ draws, in the order of its picture (3 rows x 2 columns, row by row).

    Azimuths are 30, 90, ..., 330 degrees from the input's, elevations are absolute.

    Args:
        version: ``1.1`` (elevations 30 and -20 in turn, field of view 49.13 degrees) or ``1.2`` (elevations
            20 and -10, field of view 30 degrees).
        source_azimuth: Azimuth of the input picture in our world, radians.
        radius: Distance to the origin, world units. By default ``1 / tan(fov / 2)``, where the authors put
            version 1.2's cameras around the unit sphere; version 1.1 keeps the input's size, so that any
            distance is a choice.

    Returns:
        Cameras of shape ``[6]``, float32.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> zero123plus_views("1.2").azimuths.rad2deg().remainder(360).round().tolist()
        [30.0, 90.0, 150.0, 210.0, 270.0, 330.0]
    """
    if version not in get_args(Zero123PlusVersion):
        raise ValueError(f"Argument `version` must be one of {get_args(Zero123PlusVersion)}, but got {version!r}.")
    elevations, fov = _ZERO123PLUS[version]
    azimuths = torch.arange(30.0, 360.0, 60.0, dtype=torch.float64)
    distance = 2 * focal_from_fov(fov) if radius is None else radius
    angles = torch.stack(
        [azimuths, azimuths.new_tensor(elevations * 3), torch.full_like(azimuths, distance)],
        -1,
    )
    return from_zero123plus(angles, pinhole(fov, torch.float64), source_azimuth).to(torch.float32)


def from_zero123plus(angles: Tensor, intrinsics: Tensor, source_azimuth: Tensor | float = 0.0) -> Cameras:
    """Cameras from the angles by which Zero-1-to-3 and Zero123++ describe views.

    World: +Z up, azimuth 0 at the input picture, counter-clockwise seen from above. Every camera is upright
    and looks at the origin.

    Args:
        angles: Azimuth from the input's in degrees, elevation in degrees, distance; ``[..., 3]``.
        intrinsics: Normalised ``(fx, fy, cx, cy)``, broadcastable to ``[..., 4]``.
        source_azimuth: Azimuth of the input picture in our world, radians, a number or ``[...]``.
    """
    azimuth, elevation = torch.deg2rad(angles[..., 0]) + source_azimuth, torch.deg2rad(angles[..., 1])
    return on_sphere(azimuth, elevation, angles[..., 2], intrinsics)


def to_zero123plus(cameras: Cameras, source_azimuth: Tensor | float = 0.0) -> Tensor:
    """Inverse of `from_zero123plus`: ``[..., 3]``, the azimuth in [0, 360).

    Raises:
        ValueError: if a camera is not upright or does not look at the origin.
    """
    distance = cameras.centers.norm(dim=-1)
    backward, right = cameras.poses[..., 2], cameras.poses[..., 0]
    off_axis = (backward * distance[..., None] - cameras.centers).norm(dim=-1) > 1e-3 * distance
    if bool((off_axis | (right[..., 2].abs() > 1e-3) | (cameras.poses[..., 2, 1] < 0)).any()):
        raise ValueError("Zero123++ describes upright cameras that look at the origin, but these are not.")
    azimuth = torch.rad2deg(cameras.azimuths - source_azimuth).remainder(360)
    return torch.stack([azimuth, torch.rad2deg(cameras.elevations), distance], -1)


# -- shared --------------------------------------------------------------------------------------------------
def _three_rows(matrices: Tensor, name: str) -> Tensor:
    if matrices.shape[-2:] not in ((3, 4), (4, 4)):
        raise ValueError(f"Argument `{name}` must have shape [..., 3, 4] or [..., 4, 4], not {list(matrices.shape)}.")
    return matrices[..., :3, :]


def _flip_camera(poses: Tensor) -> Tensor:
    """OpenGL camera axes to OpenCV's and back: y and z change sign."""
    return poses * poses.new_tensor([1.0, -1.0, -1.0, 1.0])


def _inverted(rows: Tensor) -> Tensor:
    """Inverse of rigid ``[..., 3, 4]`` matrices."""
    rotation = rows[..., :3].transpose(-1, -2)
    return torch.cat([rotation, -(rotation @ rows[..., 3:])], -1)


def _from_pixels(k: Tensor, width: int, height: int) -> Tensor:
    if k.shape[-2:] != (3, 3):
        raise ValueError(f"Argument `k` must have shape [..., 3, 3], but got {list(k.shape)}.")
    fx, fy = k[..., 0, 0], k[..., 1, 1]
    if bool((k[..., 0, 1].abs() > 1e-3 * fx.abs()).any()):
        raise ValueError("Argument `k` has a skew, which a `Cameras` cannot express.")
    return torch.stack([fx / width, fy / height, k[..., 0, 2] / width, k[..., 1, 2] / height], -1)


def _to_pixels(intrinsics: Tensor, width: int, height: int) -> Tensor:
    fx, fy, cx, cy = intrinsics.unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    numbers = [fx * width, zero, cx * width, zero, fy * height, cy * height, zero, zero, one]
    return torch.stack(numbers, -1).unflatten(-1, (3, 3))


def _transforms_intrinsics(frame: Mapping[str, Any], size: tuple[int, int] | None) -> list[float]:
    """Normalised (fx, fy, cx, cy) of one frame with the shared numbers merged in."""
    model = str(frame.get("camera_model", "PINHOLE"))
    bent = [key for key in ("k1", "k2", "k3", "k4", "p1", "p2") if float(frame.get(key, 0.0)) != 0.0]
    if model not in ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV") or bent:
        raise ValueError(f"its lens is not a pinhole ({', '.join(bent) or model}), undistort the pictures first.")
    if "w" in frame and "h" in frame:
        size = (int(frame["w"]), int(frame["h"]))
    if "fl_x" not in frame and "camera_angle_x" not in frame:
        raise KeyError("fl_x")
    if size is None:
        raise KeyError("w")
    width, height = size
    if "fl_x" in frame:
        fx = float(frame["fl_x"])
        fy = float(frame.get("fl_y", fx))
    else:
        fx = width * 0.5 / math.tan(float(frame["camera_angle_x"]) / 2)
        fy = height * 0.5 / math.tan(float(frame["camera_angle_y"]) / 2) if "camera_angle_y" in frame else fx
    cx, cy = float(frame.get("cx", width / 2)), float(frame.get("cy", height / 2))
    return [fx / width, fy / height, cx / width, cy / height]
