"""Video backbones by name; other packages add theirs by an entry point."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from vfusion3d.errors import UsageError
from vfusion3d.video.backbone import VideoBackbone
from vfusion3d.video.epipolar import add_joint_attention
from vfusion3d.video.rays import add_ray_channels

ENTRY_POINTS = "vfusion3d.video_backbones"
"""Group of entry points; each names a subclass of `VideoBackbone` and is called what recipes call it."""
_OURS = {"emu": "EmuBackbone", "i2vgen": "I2VGenBackbone", "svd": "SvdBackbone", "wan": "WanBackbone"}


def backbone_names() -> list[str]:
    """All names that `backbone_class` knows."""
    return sorted({*_OURS, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def backbone_class(name: str) -> type[VideoBackbone]:
    """The class of a backbone.

    Raises:
        UsageError: if there is none of that name, or it is no `VideoBackbone`.
    """
    if name in _OURS:
        return getattr(importlib.import_module(f"vfusion3d.video.{name}"), _OURS[name])  # type: ignore[no-any-return]
    points = entry_points(group=ENTRY_POINTS, name=name)
    if not points:
        raise UsageError(f"Argument `backbone` must be one of {', '.join(backbone_names())}, but got {name!r}.")
    found = next(iter(points)).load()
    if not (isinstance(found, type) and issubclass(found, VideoBackbone)):
        raise UsageError(f"The entry point {name!r} of {ENTRY_POINTS} is no VideoBackbone; mend its package.")
    return found


def is_preset(name: str, source: str) -> bool:
    """Whether a backbone's source is a preset, whose random weights are nowhere else.

    Raises:
        UsageError: if there is no such backbone.
    """
    return source in backbone_class(name).presets


def create_backbone(
    name: str, source: str, *, ray_channels: bool = False, joint_attention: bool = False, **changes: Any
) -> VideoBackbone:
    """A backbone with random weights, from the hub or from a folder.

    Args:
        name: One of `backbone_names`.
        source: A preset of the backbone (random weights), a name on the Hugging Face hub, or a local folder in
            diffusers' layout.
        ray_channels: Whether it reads each frame's Plücker rays besides (`add_ray_channels`).
        joint_attention: Whether its views attend to each other along epipolar lines (`add_joint_attention`).
        changes: Options of the backbone.

    Raises:
        UsageError: if there is no such backbone or option, or it cannot have one.
        CheckpointError: if weights are not to be had or do not fit.
    """
    kind = backbone_class(name)
    model = kind.from_preset(source, **changes) if is_preset(name, source) else kind.from_pretrained(source, **changes)
    if ray_channels:
        add_ray_channels(model)
    if joint_attention:
        add_joint_attention(model)
    return model
