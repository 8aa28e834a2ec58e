"""What any method should be better than: an empty picture, the input again, the nearest object it was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vfusion3d.alpha import over_white
from vfusion3d.data.scenes import Scene

WHITE, PASTED, NEAREST = "all white", "input pasted", "nearest seen object"


class NearestSeen:
    """Retrieval: of the objects that were trained on, the one whose input view is most like an object's own.

    Args:
        seen: The objects that were trained on, by name, under the protocol of those that ask.
    """

    def __init__(self, seen: Mapping[str, Scene]) -> None:
        self.seen = dict(seen)
        self._fronts: dict[str, Tensor] = {}

    def of(self, name: str, scene: Scene) -> str | None:
        """The name of the nearest other object by squared error of the input views; None if there is no other."""
        others = [other for other in self.seen if other != name]
        if not others:
            return None
        own = over_white(scene.image(0)[None])[0]
        errors = {other: float((self._front(other) - own).square().mean()) for other in others}
        return min(errors, key=lambda other: (errors[other], other))

    def missing(self, layout: str) -> dict[str, str]:
        """Why there is no such floor under a layout of cameras, under its name; empty where there is one."""
        if layout != "benchmark":
            return {NEAREST: "each object has cameras of its own, so that others' views show other sides"}
        if not self.seen:
            return {NEAREST: "none of the objects is known to have been trained on"}
        return {}

    def _front(self, name: str) -> Tensor:
        if name not in self._fronts:
            self._fronts[name] = over_white(self.seen[name].image(0)[None])[0]
        return self._fronts[name]
