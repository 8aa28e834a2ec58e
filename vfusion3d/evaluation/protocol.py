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

from vfusion3d.data.held_out import read_names
from vfusion3d.errors import UsageError
from vfusion3d.meshes.views import Layout, LightingName, ViewSettings

FOLDER = Path(__file__).parents[1] / "protocols"
"""Where the protocols of the package lie."""
RULES = 2
"""Version of what is the same in all protocols; part of their hashes, so that figures of an older one never mix."""

LpipsNet = Literal["alex", "vgg"]
Alignment = Literal["none", "silhouette-scale"]


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("views", "resolution", "seed"), (int,)),
    **dict.fromkeys(("elevation", "fov"), (float, type(None))),
    "border": (float,),
    "count_input": (bool,),
    "objects": (tuple, type(None)),
    "sources": (tuple,),
}


@dataclass(frozen=True)
class Protocol:
    """How objects become figures.

    What is not stated here is fixed for all protocols: pictures on white, colours composited before anything is
    resized and rounded to 8 bits, PSNR with a peak of 1 and per picture, SSIM with a Gaussian window of 1.5 pixels and
    a range of 1, LPIPS on [-1, 1] at the pictures' own size, silhouettes of what is not white, means per object and
    then over objects, failures scored as empty pictures (`RULES`).

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
    objects: tuple[str, ...] | None = None
    """Names of the objects, all of which must be there; None: all that are given. A file may instead name a text file
    beside it, a name a line."""
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
        if self.objects is not None and not (self.objects and all(isinstance(name, str) for name in self.objects)):
            raise UsageError("Protocol field `objects` must be a list of names, or the name of a file of them.")
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
        """What `hash_of` says of all fields and the rules, objects in any order."""
        fields = self.to_dict()
        return hash_of({**fields, "objects": fields["objects"] and sorted(set(fields["objects"])), "rules": RULES})

    def choose(self, names: Iterable[str]) -> list[str]:
        """Which of the objects that are given are the protocol's, sorted.

        Raises:
            UsageError: if one of the protocol's is not among them, so that a part is not taken for the whole.
        """
        given = set(names)
        missing = sorted(set(self.objects or ()) - given)
        if missing:
            raise UsageError(
                f"Protocol {self.name} is of {len(set(self.objects or ()))} objects, but {len(missing)} of them are "
                f"not among the {len(given)} meshes, the first {missing[0]}: name mesh files as the objects, all of "
                "them, or take a protocol without `objects`."
            )
        return sorted(given if self.objects is None else set(self.objects))

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
        if isinstance(fields.get("objects"), str):
            fields["objects"] = tuple(read_names(path.parent / fields["objects"], f"list of objects of {path}"))
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
