"""A figure over a series of results: the shape of the paper's Figure 7, and of its ablation tables.

    python benchmarks/scaling.py runs/100k runs/300k runs/500k --x 100 300 500 --output scaling

The results are those of gso.py, novel_view.py and the like (`--output`), one run for each checkpoint, all under one
protocol. Leaves scaling.png and scaling.md: every figure with its 95 % interval over objects, and the change from each
run to the next, paired by object; unseen and seen objects apart, as far as they are so in all runs, the floors below.
`--x` places the runs on a logarithmic axis; without it they are named by their folders.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vfusion3d.errors import MissingExtraError, UsageError, VFusion3DError
from vfusion3d.evaluation import Protocol, Results, compare
from vfusion3d.evaluation.groups import ALL, counted
from vfusion3d.evaluation.results import (
    FIGURES,
    METHOD,
    OTHER_LPIPS,
    digits_of,
    origin,
    plain_interval,
    same_lpips,
    same_protocol,
    told_failures,
    told_interval,
)
from vfusion3d.outputs import make_folder, write_atomically


def shared(results: list[Results], group: str) -> list[Results]:
    """The results of the objects that are of the group in all runs: of others the means would not compare."""
    objects = [{row["object"] for row in one.rows[METHOD] if group in (ALL, row["group"])} for one in results]
    return [one.only(set.intersection(*objects)) for one in results]


def groups_of(results: list[Results], names: list[str], asked: str | None) -> list[str]:
    """The groups of which there are objects in all runs; only one if it is asked for.

    Raises:
        UsageError: if there are none.
    """
    wanted = results[0].groups if asked is None else [asked]
    found = [group for group in wanted if shared(results, group)[0].rows[METHOD]]
    if not found:
        told = [f"{name} ({' and '.join(one.groups)})" for name, one in zip(names, results, strict=True)]
        raise UsageError(
            f"No object is {asked or 'of one group'} in all of {', '.join(told)}; choose another --group, or all of "
            "them pooled (--group all)."
        )
    return found


def lines(results: list[Results], names: list[str], shown: list[str]) -> list[dict[str, Any]]:
    """A line for each run: means with intervals, and paired changes from the run before; then one for each floor."""
    found = []
    for k, (one, name) in enumerate(zip(results, names, strict=True)):
        row: dict[str, Any] = {"run": name, "figures": {f: vars(one.mean(f)) for f in shown}, "changes": {}}
        if k:
            differences = compare(results[k - 1], one).differences
            group = ALL if ALL in {d.group for d in differences} else differences[0].group
            row["changes"] = {d.figure: plain_interval(d.interval) for d in differences if d.group == group}
        found.append(row)
    last = results[-1]
    for floor in last.floors:
        figures = {f: vars(last.mean(f, of=floor)) for f in shown} if floor in last.rows else {}
        found.append({"run": f"floor: {floor}", "figures": figures, "changes": {}})
    return found


def markdown(groups: dict[str, list[dict[str, Any]]], protocol: Protocol) -> str:
    """A table for each group of objects."""
    text = []
    for group, rows in groups.items():
        count = max(mean["objects"] for mean in rows[0]["figures"].values())
        text.append(
            f"| {counted(count, group)} | " + " | ".join(f"{f.replace('_', ' ')} | change" for f in FIGURES) + " |"
        )
        text.append("| --- " + "| ---: | ---: " * len(FIGURES) + "|")
        for row in rows:
            cells = []
            for name in FIGURES:
                change = row["changes"].get(name)
                mean = row["figures"].get(name)
                cells.append("n/a" if mean is None else told_interval(mean, digits_of(name)))
                cells.append("" if change is None else told_interval(change, digits_of(name), "+"))
            text.append(f"| {row['run']} | " + " | ".join(cells) + " |")
        text.append("")
    return "\n".join([*text, origin(protocol)])


def draw(rows: list[dict[str, Any]], x: list[float] | None, label: str, path: Path) -> None:
    """A panel for each figure.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError("The plot needs matplotlib: pip install matplotlib.") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [name for name in rows[0]["figures"] if all(row["figures"][name]["value"] is not None for row in rows)]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(3.4 * len(shown), 3.2), squeeze=False)
    places = list(range(len(rows))) if x is None else x
    for axis, name in zip(axes[0], shown, strict=True):
        means = [row["figures"][name] for row in rows]
        middle = [mean["value"] for mean in means]
        below = [mean["value"] - (mean["value"] if mean["low"] is None else mean["low"]) for mean in means]
        above = [(mean["value"] if mean["high"] is None else mean["high"]) - mean["value"] for mean in means]
        axis.errorbar(places, middle, [below, above], fmt="o-", capsize=3)
        axis.set(title=name.replace("_", " "), xlabel=label)
        if x is None:
            axis.set_xticks(places, [row["run"] for row in rows], rotation=30)
        else:
            axis.set_xscale("log")
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def main() -> int:
    """Gather and draw; 0, or 2 if something cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("results", nargs="+", metavar="RESULTS", help="folders with results.json, in order")
    add("--x", nargs="+", type=float, help="the place of each on a logarithmic axis")
    add("--label", default="", help="what the axis shows")
    add("--group", choices=["unseen", "seen", ALL], help="only these objects (each group, the plot of the first)")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of scaling.png, scaling.md and scaling.json")
    add("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    try:
        if len(arguments.results) < 2:
            raise UsageError("Name at least two results: one has no trend.")
        if arguments.x is not None and (len(arguments.x) != len(arguments.results) or min(arguments.x) <= 0):
            raise UsageError(f"Option --x needs a positive number for each of {len(arguments.results)} results.")
        results = [Results.load(path) for path in arguments.results]
        folders = [Path(path).resolve().name for path in arguments.results]
        names = folders if len(set(folders)) == len(folders) else list(arguments.results)
        same_protocol(results, names)
        compared = [name for name in FIGURES if name != "lpips" or same_lpips(results)]
        groups = {}
        for group in groups_of(results, names, arguments.group):
            groups[group] = lines(shared(results, group), names, compared)
        output = make_folder(arguments.output)
        draw(next(iter(groups.values()))[: len(results)], arguments.x, arguments.label, output / "scaling.png")
        text = markdown(groups, results[0].protocol)
        remarks = [] if "lpips" in compared else [OTHER_LPIPS]
        for one, name in zip(results, names, strict=True):
            remarks += told_failures(one.failures, "scored as empty pictures", name)
        text = "\n".join([text, *remarks])
        write_atomically(output / "scaling.md", text.encode())
        facts = {"protocol": results[0].protocol.to_dict(), "protocol_hash": results[0].protocol.hash}
        document = {**facts, "x": arguments.x, "groups": groups, "remarks": remarks}
        write_atomically(output / "scaling.json", json.dumps(document, indent=1).encode())
    except VFusion3DError as error:
        print(f"scaling.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(document) if arguments.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
