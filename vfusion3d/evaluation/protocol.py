"""A protocol: everything that decides a figure, as data with a hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from vfusion3d.errors import UsageError
from vfusion3d.meshes.views import Layout, LightingName, ViewSettings

FOLDER = Path(__file__).parents[1] / "protocols"
"""Where the protocols of the package lie."""

LpipsNet = Literal["alex", "vgg"]
Alignment = Literal["none", "silhouette-scale"]


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("views", "resolution", "seed"), (int,)),
    **dict.fromkeys(("elevation", "fov"), (float, type(None))),
    **dict.fromkeys(("objects", "leave_out"), (str, type(None))),
    "border": (float,),
    "count": (int, type(None)),
    "count_input": (bool,),
    "sources": (tuple,),
}


@dataclass(frozen=True)
class Protocol:
    """How objects become figures.

    What is not stated here is fixed for all protocols: pictures on white, colours composited before anything is
    resized, PSNR with a peak of 1 and per picture, SSIM with a Gaussian window of 1.5 pixels and a range of 1, LPIPS on
    [-1, 1] at the pictures' own size, means per object and then over objects, failures scored as empty pictures.

    Raises:
        UsageError: naming the field.
    """

    name: str
    """Name in tables and files."""
    description: str
    """What it is, in a sentence; not hashed."""
    layout: Layout
    """Cameras as `vfusion3d render --layout` has them; the first is the input's."""
    views: int
    """Cameras, the input's among them."""
    resolution: int
    """Side of the pictures in pixels."""
    elevation: float | None = None
    """Degrees, of all cameras; the layout's own by default."""
    fov: float | None = None
    """Degrees; the layout's own by default."""
    lighting: LightingName = "lambert"
    """Of the true views."""
    count_input: bool = False
    """Whether the input view is scored too."""
    lpips: LpipsNet = "vgg"
    """Network of LPIPS."""
    border: float = 0.1
    """Free share of the recentred input picture on each side of the object."""
    alignment: Alignment = "none"
    """``silhouette-scale``: predictions are magnified so that their silhouettes are as large as the true ones."""
    objects: str | None = None
    """A list of object names in the package's `protocols` folder; None: all objects that are given."""
    leave_out: str | None = None
    """A list of object names there that are left out."""
    count: int | None = None
    """How many objects there must be then, so that a set that lacks some is not taken for the whole; None: any."""
    seed: int = 0
    """Of what a layout draws."""
    sources: tuple[str, ...] = ()
    """Where the numbers come from, and which are ours; not hashed."""

    def __post_init__(self) -> None:
        for name in ("elevation", "fov", "border"):  # 20 and 20.0 are one number, and so one hash
            if isinstance(getattr(self, name), int):
                object.__setattr__(self, name, float(getattr(self, name)))
        for field in dataclasses.fields(self):
            value, kinds = getattr(self, field.name), _KINDS.get(field.name, (str,))
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise UsageError(f"Protocol field `{field.name}` is of the wrong kind: {value!r}.")
        self.settings()
        for name, allowed in (("lighting", get_args(LightingName)), ("lpips", get_args(LpipsNet))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"Protocol field `{name}` must be one of {allowed}, but got {getattr(self, name)!r}.")
        if self.alignment not in get_args(Alignment):
            raise UsageError(
                f"Protocol field `alignment` must be one of {get_args(Alignment)}, but got {self.alignment!r}."
            )
        if not 0 <= self.border < 0.5:
            raise UsageError(f"Protocol field `border` must be in [0, 0.5), but got {self.border}.")
        if self.views < 2 and not self.count_input:
            raise UsageError("A protocol that does not count the input view needs at least 2 `views`.")

    def settings(self) -> ViewSettings:
        """The cameras."""
        return ViewSettings(
            self.layout, self.views, self.resolution, self.elevation, self.fov, offset_noise=0.0, seed=self.seed
        )

    @property
    def scored(self) -> range:
        """Numbers of the scored views."""
        return range(0 if self.count_input else 1, self.views)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @property
    def hash(self) -> str:
        """What `hash_of` says of all fields, object lists by their content."""
        fields = self.to_dict()
        for key in ("objects", "leave_out"):
            fields[key] = None if fields[key] is None else sorted(self._list(fields[key]))
        return hash_of(fields)

    def choose(self, names: Iterable[str]) -> list[str]:
        """Which of the objects that are given are the protocol's, sorted.

        Raises:
            UsageError: if a list cannot be read, none is left, or their number is not the protocol's.
        """
        given = set(names)
        chosen = given if self.objects is None else given & self._list(self.objects)
        chosen -= self._list(self.leave_out) if self.leave_out is not None else set()
        if not chosen:
            raise UsageError(
                f"None of the {len(given)} meshes is an object of protocol {self.name}; mesh files must be named as "
                "the objects."
            )
        if self.count not in (None, len(chosen)):
            raise UsageError(
                f"Protocol {self.name} is of {self.count} objects, but {len(chosen)} of the {len(given)} meshes are "
                "its: name mesh files as the objects, all of them, or take a protocol without `count`."
            )
        return sorted(chosen)

    def _list(self, file: str) -> set[str]:
        path = FOLDER / file
        try:
            return {line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}
        except OSError as error:
            raise UsageError(f"The object list {path} of protocol {self.name} cannot be read ({error}).") from error

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Protocol:
        """A protocol of plain values.

        Raises:
            UsageError: if a field is missing, unknown or of the wrong kind.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise UsageError(f"A protocol has no field {unknown[0]!r}; it has {', '.join(sorted(known))}.")
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        try:
            return cls(**plain)
        except TypeError as error:
            raise UsageError(f"The protocol cannot be used: {error}.") from error

    @classmethod
    def load(cls, name: str | os.PathLike[str]) -> Protocol:
        """A protocol of the package by its name, or of a YAML file.

        Raises:
            UsageError: if there is none of that name, or it cannot be used.
        """
        path, fields = read_fields(name)
        try:
            return cls.from_dict(fields)
        except UsageError as error:
            raise UsageError(f"The protocol {path} cannot be used: {error}") from error


def read_fields(name: str | os.PathLike[str], kind: str = "") -> tuple[Path, dict[str, Any]]:
    """A protocol's file and fields.

    Args:
        name: Of the package's, or a YAML file.
        kind: Their folder in the package's ``protocols``: none for views, else ``clip``, ``rates`` or ``composite``.

    Raises:
        UsageError: if there is none of that name, or it cannot be read.
    """
    path = Path(name) if os.fspath(name).endswith((".yaml", ".yml")) else FOLDER / kind / f"{os.fspath(name)}.yaml"
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no {kind and kind + ' '}protocol {os.fspath(name)!r}; use one of "
            f"{', '.join(list_protocols(kind))}, or a YAML file."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"The protocol {path} cannot be read ({error}).") from error
    if not isinstance(fields, dict):
        raise UsageError(f"The protocol {path} must be a mapping of fields.")
    return path, {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def list_protocols(kind: str = "") -> list[str]:
    """Names of the package's protocols, of views by default (`read_fields`)."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.yaml"))


def hash_of(fields: dict[str, Any]) -> str:
    """SHA-256 over a protocol's fields but the words, in hexadecimal; None does not count, so that one more such field
    leaves old hashes as they are."""
    counted = {k: v for k, v in fields.items() if v is not None and k not in ("description", "sources")}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()
