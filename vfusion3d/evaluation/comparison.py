"""Two or more results side by side: paired differences, plots, and the objects that differ most."""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from vfusion3d.errors import MissingExtraError, UsageError
from vfusion3d.evaluation.groups import ALL, SEEN, UNKNOWN, UNSEEN
from vfusion3d.evaluation.results import (
    FIGURES,
    LOWER_IS_BETTER,
    METHOD,
    OTHER_LPIPS,
    Results,
    digits_of,
    figure_cell,
    origin,
    plain_interval,
    same_lpips,
    same_protocol,
    told_interval,
)
from vfusion3d.metrics.intervals import Interval, bootstrap_interval

_EXTREMES = 4


@dataclass(frozen=True)
class Difference:
    """A figure of B minus that of A over the objects that both have.

    Args:
        figure: Its name.
        group: Of the objects.
        interval: The mean difference with its 95 % bootstrap interval over objects.
        objects: How many there are.
        better: On how many B is better.
        a, b: Mean of A and of B over these objects.
    """

    figure: str
    group: str
    interval: Interval
    objects: int
    better: int
    a: float
    b: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class Floor:
    """Means of a floor over the objects of a group that both results have, by figure; None where there is none."""

    name: str
    group: str
    means: dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """Results B against A under one protocol.

    Args:
        a, b: The results.
        names: What they are called.
        differences: Paired, by group and figure.
        floors: What any method should be better than, of the same objects.
        remarks: What could not be compared, a sentence each.
    """

    a: Results
    b: Results
    names: tuple[str, str]
    differences: tuple[Difference, ...]
    floors: tuple[Floor, ...] = ()
    remarks: tuple[str, ...] = ()

    def extremes(self, figure: str = "psnr", count: int = _EXTREMES) -> tuple[list[str], list[str]]:
        """Objects on which B is worst and best compared with A."""
        one, two = self.a.per_object(figure), self.b.per_object(figure)
        order = sorted(one.keys() & two.keys(), key=lambda name: (two[name] - one[name], name))
        if figure in LOWER_IS_BETTER:
            order.reverse()
        count = min(count, (len(order) + 1) // 2)
        return order[:count], order[::-1][:count]

    def table(self) -> str:
        """Markdown."""
        lines = [
            f"B is {self.names[1]} ({self.b.method}), A is {self.names[0]} ({self.a.method}); B minus A, paired by "
            "object, 95 % intervals.",
            "",
            "| objects | figure | A | B | B minus A | B better |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
        ]
        several = len({d.group for d in self.differences}) > 1
        for d in self.differences:
            digits = digits_of(d.figure)
            change = told_interval(plain_interval(d.interval), digits, "+")
            change = f"**{change}**" if d.decided else change
            means = f"{figure_cell(d.a, d.figure)} | {figure_cell(d.b, d.figure)}"
            group = f"{d.objects} {d.group}" if several or d.group != ALL else str(d.objects)
            lines.append(f"| {group} | {d.figure.replace('_', ' ')} | {means} | {change} | {d.better} |")
        shown = list(dict.fromkeys(d.figure for d in self.differences))
        lines += ["", "| objects | floor | " + " | ".join(name.replace("_", " ") for name in shown) + " |"]
        lines += ["| --- | --- " + "| ---: " * len(shown) + "|"]
        for floor in self.floors:
            cells = [figure_cell(floor.means[name], name) for name in shown]
            lines.append(f"| {floor.group} | {floor.name} | {' | '.join(cells)} |")
        return "\n".join([*lines, "", *self.left_out(), *self.remarks, origin(self.a.protocol)])

    def left_out(self) -> list[str]:
        """What the pairs do not show: objects of one side alone, and failures, which count as empty pictures."""
        one, two = self.a.per_object("psnr").keys(), self.b.per_object("psnr").keys()
        facts = [
            (len(one - two), f"objects are in {self.names[0]} alone"),
            (len(two - one), f"objects are in {self.names[1]} alone"),
        ]
        facts += [
            (len(r.failures), f"objects failed in {n}") for r, n in zip((self.a, self.b), self.names, strict=True)
        ]
        return [f"{count} {what}." for count, what in facts if count]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        worst, best = self.extremes()
        return {
            "names": list(self.names),
            "methods": [self.a.method, self.b.method],
            "protocol": self.a.protocol.name,
            "protocol_hash": self.a.protocol.hash,
            "differences": [
                {**vars(d), "interval": plain_interval(d.interval), "decided": d.decided} for d in self.differences
            ],
            "floors": [vars(floor) for floor in self.floors],
            "left_out": self.left_out(),
            "remarks": list(self.remarks),
            "sources": list(self.a.protocol.sources),
            "worst": worst,
            "best": best,
        }


def compare(a: Results, b: Results, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Compare two results object by object.

    Args:
        a, b: Results under one protocol.
        names: What they are called.

    Raises:
        UsageError: if their protocols differ, or they share no object.
    """
    same_protocol([a, b], names)
    shared = a.per_object("psnr").keys() & b.per_object("psnr").keys()
    if not shared:
        raise UsageError(f"{names[0]} and {names[1]} share no object, so there is nothing to compare.")
    others = sorted(name for name in shared if a.truths.get(name) != b.truths.get(name))
    if others:
        raise UsageError(
            f"The true views of {others[0]} are not the same in {names[0]} and {names[1]} ({len(others)} objects): "
            "other meshes, or another up axis; score both on the same ones."
        )
    found, floors, remarks = [], [], []
    figures = list(FIGURES)
    if not same_lpips([a, b]):
        figures.remove("lpips")
        remarks.append(OTHER_LPIPS)
    for group, objects in _groups(a, b, names, shared).items():
        for figure in figures:
            one, two = a.per_object(figure), b.per_object(figure)
            pairs = [(one[name], two[name]) for name in sorted(objects & one.keys() & two.keys())]
            if pairs:
                sign = -1 if figure in LOWER_IS_BETTER else 1
                better = sum(sign * (second - first) > 0 for first, second in pairs)
                interval = bootstrap_interval([second - first for first, second in pairs])
                means = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
                found.append(Difference(figure, group, interval, len(pairs), better, *means))
        floors += _floors(a, b, names, group, figures, objects)
    return Comparison(a, b, names, tuple(found), tuple(floors), tuple(remarks))


def _groups(a: Results, b: Results, names: tuple[str, str], shared: Collection[str]) -> dict[str, set[str]]:
    """Shared objects by what both know of them, and all of them.

    What one has seen and the other has not is a group of its own: pooled, it would favour the one.
    """
    one, two = ({row["object"]: row["group"] for row in results.rows[METHOD]} for results in (a, b))
    found: dict[str, set[str]] = {}
    for name in sorted(shared):
        told = [UNKNOWN if group == ALL else group for group in (one[name], two[name])]
        both = told[0] if told[0] == told[1] else f"{told[0]} in {names[0]}, {told[1]} in {names[1]}"
        found.setdefault(both, set()).add(name)
    if len(found) == 1 and UNKNOWN in found:
        return {ALL: found[UNKNOWN]}
    order = {group: k for k, group in enumerate((UNSEEN, SEEN))}
    sorted_groups = dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))
    return sorted_groups if len(found) == 1 else {**sorted_groups, ALL: set(shared)}


def _floors(
    a: Results, b: Results, names: tuple[str, str], group: str, figures: Sequence[str], objects: Collection[str]
) -> list[Floor]:
    """Floors of a group of objects; both results' where they differ, as what is nearest does if each saw others."""
    found = []
    for floor in dict.fromkeys([*a.floors, *b.floors]):
        one, two = (_means(results, floor, figures, objects) for results in (a, b))
        if one == two:
            found.append(Floor(floor, group, one))
        else:
            found += [Floor(f"{floor} of {name}", group, m) for name, m in zip(names, (one, two), strict=True)]
    return found


def _means(results: Results, floor: str, figures: Sequence[str], objects: Collection[str]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for figure in figures:
        each = results.per_object(figure, of=floor) if floor in results.rows else {}
        values = [value for name, value in each.items() if name in objects]
        means[figure] = sum(values) / len(values) if values else None
    return means


def draw(comparison: Comparison, output: Path) -> list[Path]:
    """``scatter.png`` (an object a point) and ``azimuth.png`` (PSNR by azimuth from the input) in a folder.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError("The plots need matplotlib: pip install matplotlib.") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [name for name in FIGURES if any(d.figure == name for d in comparison.differences)]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(3.6 * len(shown), 3.6), squeeze=False)
    for axis, name in zip(axes[0], shown, strict=True):
        one, two = comparison.a.per_object(name), comparison.b.per_object(name)
        objects = sorted(one.keys() & two.keys())
        axis.scatter([one[key] for key in objects], [two[key] for key in objects], s=12)
        low, high = min([*one.values(), *two.values()]), max([*one.values(), *two.values()])
        axis.plot([low, high], [low, high], "k:", linewidth=1)
        axis.set(title=name.replace("_", " "), xlabel=comparison.names[0], ylabel=comparison.names[1])
    figure.tight_layout()
    files = [output / "scatter.png", output / "azimuth.png"]
    figure.savefig(files[0], dpi=100, bbox_inches="tight")
    pyplot.close(figure)
    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    for results, name in zip((comparison.a, comparison.b), comparison.names, strict=True):
        curve = by_azimuth(results)
        axis.plot([azimuth for azimuth, _ in curve], [value for _, value in curve], "o-", label=name)
    axis.set(xlabel="azimuth from the input, degrees", ylabel="PSNR, dB")
    axis.legend()
    figure.savefig(files[1], dpi=100, bbox_inches="tight")
    pyplot.close(figure)
    return files


def by_azimuth(results: Results, figure: str = "psnr", bin_degrees: float = 22.5) -> list[tuple[float, float]]:
    """Mean of a figure over the views whose azimuth from the input is nearest to each multiple of a step."""
    bins: dict[float, list[float]] = {}
    for row in results.rows["method"]:
        if row.get(figure) is not None:
            place = round(row["azimuth"] / bin_degrees) * bin_degrees % 360
            bins.setdefault(place, []).append(row[figure])
    return sorted((place, sum(values) / len(values)) for place, values in bins.items())


def page(comparison: Comparison, folders: Sequence[Path | None], plots: Sequence[Path]) -> str:
    """A web page in one file: the table, the plots, and the worst and best objects where pictures were kept.

    Args:
        comparison: What to show.
        folders: The results' folders, with a picture for each object in ``objects/``; None where there is none.
        plots: Pictures to show.
    """

    def picture(path: Path) -> str:
        data = base64.b64encode(path.read_bytes()).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(path.name)}">'

    said, *lines = comparison.table().splitlines()
    parts = [f"<p>{html.escape(said)}</p>"]
    for is_table, block in groupby(lines, lambda line: line.startswith("|")):
        if is_table:
            rows = [line.strip("| ").split(" | ") for line in block if not line.startswith("| ---")]
            cells = ("".join(f"<td>{_html_cell(cell)}" for cell in row) for row in rows)
            parts.append(f"<table>{''.join(f'<tr>{row}' for row in cells)}</table>")
        else:
            parts.append(f"<p>{html.escape(' '.join(block))}</p>")
    parts += map(picture, plots)
    for title, names in zip(("B worst", "B best"), comparison.extremes(), strict=True):
        parts.append(f"<h2>{title} against A, by PSNR</h2>")
        for name in names:
            parts.append(f"<h3>{html.escape(name)}</h3>")
            for folder, called in zip(folders, comparison.names, strict=True):
                path = None if folder is None else folder / "objects" / f"{name}.png"
                if path is not None and path.is_file():
                    parts.append(f"<figure><figcaption>{html.escape(called)}</figcaption>{picture(path)}</figure>")
    style = (
        "body{font:15px/1.4 sans-serif;margin:2em;color:#222}img{max-width:100%}figure{display:inline-block;margin:0}"
    )
    style += "td{padding:.15em 1em .15em 0}tr:first-child{font-weight:bold}"
    return f"<!doctype html><meta charset=utf-8><title>Comparison</title><style>{style}</style>{''.join(parts)}"


def _html_cell(text: str) -> str:
    """A cell of a Markdown table, its stars as bold."""
    plain = html.escape(text.strip())
    return f"<b>{plain.strip('*')}</b>" if plain.startswith("**") else plain
