"""What every training loader delivers."""

from __future__ import annotations

from typing import TypedDict

from torch import Tensor
from typing_extensions import NotRequired

from vfusion3d.cameras import Cameras
from vfusion3d.errors import UsageError


class MultiViewBatch(TypedDict):
    """B objects in V views; view 0 is the model's input, all V are supervised.

    Keys:
        images: Premultiplied RGBA in [0, 1], float32, ``[B, V, 4, H, W]``.
        poses: Camera-to-world (see `Cameras`), float32, ``[B, V, 3, 4]``.
        intrinsics: Normalised ``(fx, fy, cx, cy)``, float32, ``[B, V, 4]``.
        sample: Index of the sample in its data set, int64, ``[B]``.
        epoch: Number of the epoch, int64, ``[B]``; with ``sample`` it seeds all randomness of the item.
        points: World points with a label, float32, ``[B, P, 3]``; only from modules told to label points.
        inside: 1 where the point lies in the object, else 0, float32, ``[B, P]``; comes with ``points``.
    """

    images: Tensor
    poses: Tensor
    intrinsics: Tensor
    sample: Tensor
    epoch: Tensor
    points: NotRequired[Tensor]
    inside: NotRequired[Tensor]


def require_pixels(wanted: int, delivered: int) -> None:
    """See that training never supervises enlarged pictures.

    Args:
        wanted: Largest side that training renders, in pixels.
        delivered: Side of a batch's pictures.

    Raises:
        UsageError: if they are smaller than that.
    """
    if wanted > delivered:
        raise UsageError(
            f"Training asks for {wanted} pixels (a stage of `resolution`, or `patches.size`), but the data's pictures "
            f"have {delivered}: raise the data module's `resolution` or lower that."
        )


def batch_cameras(batch: MultiViewBatch) -> Cameras:
    """The cameras of a batch, ``[B, V]``."""
    return Cameras(batch["poses"], batch["intrinsics"])
