"""What any method should be better than: an empty picture, the input again, the nearest object it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vfusion3d.alpha import over_white, pixels_over_white
from vfusion3d.cameras import Cameras
from vfusion3d.data.resize import area_resize
from vfusion3d.data.scenes import Scene
from vfusion3d.evaluation.protocol import Protocol
from vfusion3d.meshes import VtkRenderer, normalise, read_mesh
from vfusion3d.meshes.readers import UpAxis
from vfusion3d.meshes.views import RenderJob

WHITE, PASTED, NEAREST = "all white", "input pasted", "nearest seen object"
_SIDE = 64  # pixels a side at which inputs are compared


class NearestSeen:
    """Retrieval: of the objects that were trained on, the one whose input looks most like an object's own.

    Args:
        seen: Names of the objects that were trained on.
        picture: The input of an object on white, in [0, 1], ``[3, H, W]``; asked for once.
    """

    def __init__(self, seen: Collection[str], picture: Callable[[str], Tensor]) -> None:
        self.seen = list(seen)
        self._picture = picture
        self._small: dict[str, Tensor] = {}

    @classmethod
    def among(cls, scenes: Mapping[str, Scene], seen: Collection[str]) -> NearestSeen:
        """Of scenes, whose first view is the input."""
        return cls(seen, lambda name: over_white(scenes[name].image(0)))

    def of(self, name: str) -> str | None:
        """The name of the nearest other object by squared error of the inputs at 64 pixels; None if there is none."""
        own = self._input(name)
        errors = {other: float((self._input(other) - own).square().mean()) for other in self.seen if other != name}
        return min(errors, key=lambda other: (errors[other], other)) if errors else None

    @property
    def missing(self) -> dict[str, str]:
        """Why there is no such floor, under its name; empty where there is one."""
        return {} if self.seen else {NEAREST: "none of the objects is known to have been trained on"}

    def _input(self, name: str) -> Tensor:
        if name not in self._small:
            self._small[name] = area_resize(self._picture(name)[None].float(), _SIDE, _SIDE)[0]
        return self._small[name]


class NearestViews:
    """The views of the nearest seen object, as if they were predicted: each from where the view lies to the input.

    Where all objects have the same cameras these are its own true views; else its mesh is turned as the inputs lie to
    each other (`turn_between`) and drawn.

    Args:
        scenes: True views by object.
        seen: Names of the objects that were trained on.
        protocol: The protocol.
        meshes: True meshes by object; None where they are not at hand.
        up: Up axis of their files.
    """

    def __init__(
        self,
        scenes: Mapping[str, Scene],
        seen: Collection[str],
        protocol: Protocol,
        meshes: Mapping[str, Path] | None = None,
        up: UpAxis = "y",
    ) -> None:
        self.scenes, self.protocol, self.meshes, self.up = scenes, protocol, meshes, up
        self.nearest = NearestSeen.among(scenes, seen)
        self._renderer: VtkRenderer | None = None

    @property
    def missing(self) -> dict[str, str]:
        """Why there is no such floor, under its name; empty where there is one."""
        if self.protocol.layout != "benchmark" and self.meshes is None:
            return {
                NEAREST: "each object has cameras of its own, and without true meshes others are not drawn from them"
            }
        return self.nearest.missing

    def of(self, name: str) -> Tensor | None:
        """Scored views of the object that is nearest, on white, ``[V, 3, H, W]``; None if there is no other."""
        other = self.nearest.of(name)
        if other is None:
            return None
        views, theirs = list(self.protocol.scored), self.scenes[other]
        if self.meshes is None or self.protocol.layout == "benchmark":
            return over_white(theirs.images())[views]
        job = RenderJob(self.meshes[other], Path(name), self.protocol.settings(), self.up, self.protocol.lighting)
        if self._renderer is None:
            self._renderer = VtkRenderer(job.light())
        self._renderer.light(job.light())
        own = self.scenes[name].cameras
        turn = torch.eye(4)
        turn[:3, :3] = turn_between(own[0], theirs.cameras[0])
        cameras = own[views].transform(turn)
        mesh = normalise(read_mesh(self.meshes[other], self.up))[0]
        pixels = self._renderer.render(mesh, cameras, theirs.height, theirs.width)
        return torch.from_numpy(pixels_over_white(pixels)).permute(0, 3, 1, 2) / 255


def turn_between(one: Cameras, other: Cameras) -> Tensor:
    """The rotation about the origin, where objects are, that turns one camera's axes into another's.

    Not the whole motion: inputs are taken from different distances with different lenses, and moving a camera along
    would move the object out of the middle of the picture.

    Args:
        one, other: Inputs' cameras, shape ``[]``.

    Returns:
        ``[3, 3]``: cameras turned by it show of the other object what they show of the one.
    """
    first, second = (camera.poses[..., :3].double().cpu() for camera in (one, other))
    return (second @ first.mT).float()
