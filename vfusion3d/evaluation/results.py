"""Results that can be compared: every figure of every view, with the protocol that made it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vfusion3d.errors import UsageError
from vfusion3d.evaluation.groups import GROUPS, counted, in_order
from vfusion3d.evaluation.protocol import Protocol
from vfusion3d.metrics.intervals import Interval, bootstrap_interval
from vfusion3d.outputs import write_atomically

RESULTS = "results.json"
FIGURES = ("psnr", "foreground_psnr", "ssim", "lpips", "iou")
"""In the order of tables; LPIPS is better where it is smaller."""
LOWER_IS_BETTER = frozenset({"lpips"})
METHOD = "method"
_FORMAT = 2

Row = dict[str, Any]
"""One view of one object: ``object``, ``group``, ``view``, ``azimuth`` in degrees from the input, ``failed`` (a
sentence or None), and the figures, None where there is none."""


@dataclass(frozen=True)
class Mean:
    """A figure of a group of objects.

    Args:
        value: Mean over objects of their means over views; None where no object has the figure.
        low, high: 95 % bootstrap interval over objects.
        objects: How many objects have it.
    """

    value: float | None
    low: float | None
    high: float | None
    objects: int


@dataclass(frozen=True)
class Results:
    """What a method scored under a protocol.

    Args:
        protocol: The protocol.
        method: What was scored, in words.
        rows: Of the method and, under their names, of the floors.
        truths: What each object's true views show, from their content.
        environment: Versions and hardware.
        seconds: Per object, of the prediction alone.
        missing: Floors that could not be scored, and why.
        lpips_weights: Which LPIPS it was, from its content; None where there was none.
    """

    protocol: Protocol
    method: str
    rows: dict[str, list[Row]]
    truths: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    lpips_weights: str | None = None

    @property
    def failures(self) -> dict[str, str]:
        """Objects that failed, and why; they are scored as empty pictures."""
        return {row["object"]: row["failed"] for row in self.rows[METHOD] if row["failed"]}

    @property
    def groups(self) -> list[str]:
        """Groups of objects that there are, the unseen first."""
        return in_order(row["group"] for row in self.rows[METHOD])

    @property
    def floors(self) -> list[str]:
        """Names of the floors, those that are missing last."""
        return [*(of for of in self.rows if of != METHOD), *self.missing]

    def per_object(self, figure: str, group: str | None = None, of: str = METHOD) -> dict[str, float]:
        """Means over views of each object that has the figure."""
        views: dict[str, list[float]] = {}
        for row in self.rows[of]:
            value = row.get(figure)
            if value is not None and group in (None, row["group"]):
                views.setdefault(row["object"], []).append(value)
        return {name: math.fsum(values) / len(values) for name, values in views.items()}

    def mean(self, figure: str, group: str | None = None, of: str = METHOD) -> Mean:
        """Mean over objects with its interval."""
        values = list(self.per_object(figure, group, of).values())
        return Mean(**plain_interval(bootstrap_interval(values)), objects=len(values))

    def means(self) -> dict[str, dict[str, dict[str, dict[str, float | int | None]]]]:
        """All means as plain values: of the method and the floors, by group and figure."""
        return {
            of: {group: {name: vars(self.mean(name, group, of)) for name in FIGURES} for group in self.groups}
            for of in self.rows
        }

    def table(self) -> str:
        """Markdown: a line for the method and each floor, groups apart."""
        heads = [
            name.replace("_", " ").replace("psnr", "PSNR").replace("ssim", "SSIM").replace("iou", "IoU")
            for name in FIGURES
        ]
        heads = [head.replace("lpips", f"LPIPS ({self.protocol.lpips})") for head in heads]
        lines = []
        for group in self.groups:
            lines += [f"| {counted(len(self.per_object('psnr', group)), group)} | {' | '.join(heads)} |"]
            lines += ["| --- " + "| ---: " * len(FIGURES) + "|"]
            for of in (METHOD, *self.floors):
                title = f"**{self.method}**" if of == METHOD else f"floor: {of}"
                cells = [self._cell(name, group, of) for name in FIGURES]
                lines.append(f"| {title} | {' | '.join(cells)} |")
            lines.append("")
        lines += [*told_failures(self.failures, "scored as empty pictures"), ""] if self.failures else []
        if not self.per_object("lpips"):
            lines.append("LPIPS: n/a, its pre-trained network is not on this machine.")
        lines += [f"Floor {name}: n/a, {reason}." for name, reason in self.missing.items()]
        lines += ["", origin(self.protocol)]
        return "\n".join(lines).rstrip()

    def _cell(self, figure: str, group: str, of: str) -> str:
        """A mean in the table, the method's with its interval."""
        if of not in self.rows:
            return "n/a"
        mean = self.mean(figure, group, of)
        return told_interval(vars(mean), digits_of(figure)) if of == METHOD else figure_cell(mean.value, figure)

    def only(self, objects: Collection[str]) -> Results:
        """The same of some of the objects."""
        rows = {of: [row for row in part if row["object"] in objects] for of, part in self.rows.items()}
        return replace(self, rows=rows)

    def _whole(self) -> bool:
        """Whether every object has each scored view once, with numbers or None for figures."""
        for rows in self.rows.values():
            views: dict[str, list[int]] = {}
            for row in rows:
                if not {"object", "group", "view", "azimuth", "failed", "psnr"} <= row.keys():
                    return False
                if row["group"] not in GROUPS:
                    return False
                figures = [row["azimuth"], *(row[name] for name in FIGURES if row.get(name) is not None)]
                if not all(isinstance(figure, (int, float)) and math.isfinite(figure) for figure in figures):
                    return False
                views.setdefault(row["object"], []).append(row["view"])
            if views.keys() != self.truths.keys() or any(v != list(self.protocol.scored) for v in views.values()):
                return False
        return METHOD in self.rows and bool(self.truths)

    def save(self, path: Path) -> None:
        """Write as JSON, all or nothing.

        Raises:
            OutputError: if it cannot be written.
        """
        document = {
            "format": _FORMAT,
            "protocol": self.protocol.to_dict(),
            "protocol_hash": self.protocol.hash,
            "method": self.method,
            "failures": self.failures,
            "means": self.means(),
            "truths": self.truths,
            "environment": self.environment,
            "seconds": self.seconds,
            "missing": self.missing,
            "lpips_weights": self.lpips_weights,
            "rows": self.rows,
        }
        write_atomically(path, json.dumps(document, indent=1, allow_nan=False).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Results:
        """Read ``results.json``, or the folder that has it.

        Raises:
            UsageError: if it is missing, cut short, or was changed by hand.
        """
        file = Path(path) / RESULTS if os.path.isdir(path) else Path(path)
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            older = document["format"] != _FORMAT
        except FileNotFoundError as error:
            raise UsageError(f"There are no results {file}; run a benchmark with --output first.") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"The results {file} cannot be read ({error}); they may be cut short: run the benchmark again."
            ) from error
        if older:
            raise UsageError(
                f"The results {file} are of another version (form {document['format']}, not {_FORMAT}); run the "
                "benchmark again."
            )
        try:
            protocol = Protocol.from_dict(document["protocol"])
            kept = ("method", "rows", "truths", "environment", "seconds", "missing", "lpips_weights")
            results = cls(protocol, *(document[key] for key in kept))
            told = str(document["protocol_hash"])
            plain = (results.rows, results.truths, results.environment, results.seconds, results.missing)
            whole = all(isinstance(part, dict) for part in plain) and results._whole()
        except (KeyError, TypeError, AttributeError, OverflowError, UsageError) as error:
            raise UsageError(f"The results {file} cannot be used ({error}); run the benchmark again.") from error
        if not whole:
            raise UsageError(f"The results {file} have rows that are not whole; run the benchmark again.")
        if told != protocol.hash:
            raise UsageError(
                f"The results {file} tell the protocol hash {told[:12]}, but their protocol has {protocol.hash[:12]}: "
                "they are of another version, or one of them was changed; run the benchmark again."
            )
        return results


def origin(protocol: Protocol) -> str:
    """What figures under a protocol compare with, and where its numbers come from; stands under every table."""
    first = f"Figures compare only under one protocol hash; this is {protocol.name} {protocol.hash[:12]}."
    return "\n".join([first, *protocol.sources])


def plain_interval(interval: Interval) -> dict[str, float | None]:
    """``value``, ``low`` and ``high`` for JSON: None where one object, or none, says nothing."""
    return {key: None if math.isnan(number) else number for key, number in interval._asdict().items()}


def told_failures(failures: Mapping[str, str], how: str, place: str = "") -> list[str]:
    """A sentence about the objects that failed, if any did.

    Args:
        failures: Why, by object.
        how: What became of them.
        place: Of which run or protocol.
    """
    if not failures:
        return []
    name, reason = next(iter(failures.items()))
    count = f"{len(failures)} {'object' if len(failures) == 1 else 'objects'}"
    return [f"{place + ': ' if place else ''}{count} failed, {how}; the first, {name}: {reason}"]


def told_interval(interval: Mapping[str, float | None], digits: int, sign: str = "") -> str:
    """An interval in words: ``1.23 [1.10, 1.40]``; without brackets where it has no ends, and n/a where it is none."""
    value, low, high = interval["value"], interval["low"], interval["high"]
    if value is None:
        return "n/a"
    ends = "" if low is None or high is None else f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
    return f"{value:{sign}.{digits}f}{ends}"


OTHER_LPIPS = "LPIPS is not compared: not all have it, or their networks have different weights."


def same_lpips(results: Sequence[Results]) -> bool:
    """Whether LPIPS of all results is of the same network, as far as that is known, or none has it."""
    weights = {one.lpips_weights for one in results}
    return len(weights) == 1 and "unknown" not in weights


def same_protocol(results: Sequence[Results], names: Iterable[str]) -> None:
    """Refuse to mix protocols.

    Raises:
        UsageError: naming two results with different hashes, and the fields that differ.
    """
    first, *others = zip(results, names, strict=True)
    for other, name in others:
        if other.protocol.hash != first[0].protocol.hash:
            one, two = first[0].protocol.to_dict(), other.protocol.to_dict()
            differ = [key for key in one if one[key] != two[key] and key != "objects"]
            fields = ", ".join(f"{key} {one[key]!r} and {two[key]!r}" for key in differ) or "other object lists"
            raise UsageError(
                f"{first[1]} and {name} were scored under different protocols ({fields}), so their figures do not "
                "compare; score both under one."
            )


def figure_cell(value: float | None, figure: str) -> str:
    """A figure in a table."""
    return "n/a" if value is None else f"{value:.{digits_of(figure)}f}"


def digits_of(figure: str) -> int:
    """Decimals of a figure in tables."""
    return 2 if figure.endswith("psnr") else 3
