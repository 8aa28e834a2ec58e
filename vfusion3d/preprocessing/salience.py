"""The salient object of a mask: which parts are it, and what a user should know about them.

Several parts of similar size are kept together: a dragon and its flame, a stool's seat and legs seen through a
gap and two toys side by side look alike to a mask, and the test-time processing of the paper takes the whole
mask too. The user is told, and crops.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from vfusion3d.errors import InputImageError

MAIN_SHARE = 0.1  # of the largest part's area: what is smaller is no object of its own
SMALL_SIDE = 48  # pixels along the object's longer side
RIVAL_SHARE = 0.25  # of the largest part's area: what is larger may well be an object of its own
CONTACT_SHARE = 0.05  # of the object's extent along an edge of the picture
CUT_SHARE = 0.1  # likewise: a flame's tip or the end of a surfboard stays below, a bust or half a rocket is far above


def main_parts(mask: np.ndarray, share: float = MAIN_SHARE) -> tuple[np.ndarray, int]:
    """Connected parts (also over corners) of at least a share of the largest one's area.

    Args:
        mask: Boolean, ``[H, W]``.
        share: Of the largest part's area.

    Returns:
        Labels ``[H, W]``, 0 outside the parts and 1 to their number inside, and that number.
    """
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return labels, 0
    sizes = np.bincount(labels.ravel())[1:]
    main = sizes >= share * sizes.max()
    numbers = np.concatenate([[0], np.where(main, np.cumsum(main), 0)])
    return numbers[labels], int(main.sum())


def salient_alpha(alpha: np.ndarray) -> np.ndarray:
    """An opacity ``[H, W]`` in [0, 1] without the parts that are too small to be the object."""
    return alpha * (main_parts(alpha > 0.1)[0] > 0)


def object_warnings(alpha: np.ndarray, name: str = "The picture") -> list[str]:
    """What looks wrong with the object in its picture, one sentence each: several parts, cut off, small.

    Args:
        alpha: Opacity in [0, 1], ``[H, W]``.
        name: What the sentences call the picture.
    """
    labels, count = main_parts(alpha > 0.5)
    if count == 0:
        return []
    warnings = []
    if count > 1:
        warnings.append(
            f"{name} shows {count} separate parts, which are taken together as one object; "
            "crop it to one of them if they are several objects."
        )
    edges = _edges_touched(labels > 0)
    if edges:
        warnings.append(
            f"{name} shows an object that reaches the {_listed(edges)} edge and may be cut off there; "
            "use a picture with some room around the whole object."
        )
    rows, columns = np.flatnonzero((labels > 0).any(1)), np.flatnonzero((labels > 0).any(0))
    width, height = columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
    if max(width, height) < SMALL_SIDE:
        warnings.append(
            f"{name} shows an object of only {width} x {height} pixels; use a picture in which it is larger."
        )
    return warnings


def check_single_object(alpha: np.ndarray, name: str = "The picture") -> None:
    """Refuse what is no single, whole object.

    Args:
        alpha: Opacity in [0, 1], ``[H, W]``.
        name: What messages call the picture.

    Raises:
        InputImageError: if there are several large parts, or the object is cut off by an edge of the picture.
    """
    labels, count = main_parts(alpha > 0.5, RIVAL_SHARE)
    anyway = "or take it as it is with --no-check (argument `check=False`)"
    if count > 1:
        raise InputImageError(f"{name} shows {count} separate objects; crop it to one of them, {anyway}.")
    edges = _edges_touched(labels > 0, CUT_SHARE)
    if edges:
        raise InputImageError(
            f"{name} shows an object that is cut off at the {_listed(edges)} edge; use a picture with some room "
            f"around the whole object, {anyway}."
        )


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _edges_touched(mask: np.ndarray, share: float = CONTACT_SHARE) -> list[str]:
    """Edges of the picture along which the object lies. A picture cropped to the object's box is no cut."""
    along = {"left": mask[:, 0], "right": mask[:, -1], "top": mask[0], "bottom": mask[-1]}
    if all(line.any() for line in along.values()):
        return []
    extents = {"left": mask.any(1), "right": mask.any(1), "top": mask.any(0), "bottom": mask.any(0)}
    return [edge for edge, line in along.items() if line.sum() > share * extents[edge].sum()]
