"""``vfusion3d generate``: a table of prompts or pictures through the stages of the data engine."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from argparse import ArgumentError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from vfusion3d.errors import UsageError
from vfusion3d.outputs import result_folder, say, write_atomically
from vfusion3d.recipes import find_recipe

if TYPE_CHECKING:
    import pyarrow as pa

    from vfusion3d.engine import Plan, Step

CONFIG = "engine.yaml"
PAGE = "report.html"
_SHOWN = 5


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d generate``."""
    parser = ArgumentParser(
        prog="vfusion3d generate",
        description="Run a chain of stages (caption filter, text to image, image to orbit, quality, ...) over a table "
        "of items. What is done is kept: the same command again does what is missing, after an interruption, with more "
        "rows, with a looser condition or with another stage; a setting that changes results has results of its own. "
        "Started several times, also on several machines that see DIR, the runs share the work. An item that fails is "
        "in DIR/dead_letters.csv and stops no other; DIR/report.json says what was done and what it cost, and "
        "DIR/report.html shows it. `vfusion3d data pack DIR` makes a shard set of what is finished. "
        "Example: vfusion3d generate --config recipes/engine/nano.yaml --items prompts.txt --output runs/engine",
        epilog="FILE lists the steps: `steps:`, a list of `stage` (`class_path` and `init_args` of a class derived "
        'from vfusion3d.engine.Stage, yours too), `where` (which items, as in "single_object and margin > 0.5"), '
        "`batch_size`, and for the executor ray `workers` and `gpus` of each; and `unit`, the items that are done and "
        "kept at once. `vfusion3d recipes show engine/nano` prints one.",
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="the steps, a YAML file, or one of recipes/engine/*.yaml")
    add(
        "--items",
        required=True,
        metavar="TABLE",
        help="prompts or pictures: .txt (one a line), .csv, .tsv, .jsonl or .parquet, with a column `id` or without",
    )
    add("--output", required=True, metavar="DIR", help="the run's folder; with --only, that of the one item")
    add(
        "--executor",
        choices=["local", "ray"],
        default="local",
        help="local: in this process, one stage after another; ray: all stages at once, each in its own actors, on "
        "this machine or a Ray cluster whose nodes see the same files",
    )
    add("--limit", type=int, metavar="N", help="only the first N items; a later run with more goes on from there")
    add("--retry-failed", action="store_true", help="do items again that DIR/dead_letters.csv names")
    add("--plan", action="store_true", help="only say what would be done")
    add("--only", metavar="ID", help="make this one item anew, with all its pictures as files, into a folder --output")
    add("--json", action="store_true", help="print one JSON document, the report, on standard output")
    return parser


def run(args: Any) -> int:
    """Run the command and return its exit code: 0, or 2 if nothing at all could be done.

    Raises:
        VFusion3DError: if options, files or the machine do not allow to start.
    """
    from vfusion3d.engine import Plan, Store, read_items, summarise, write_report
    from vfusion3d.engine import run as run_plan

    steps, unit, text = read_steps(args.config)
    items = read_items(args["items"], next((name for step in steps for name in step.stage.reads), "prompt"))
    if args.limit is not None:
        if args.limit < 1:
            raise UsageError(f"Argument `limit` must be at least 1, but got {args.limit}.")
        items = items.slice(0, args.limit)
    plan = Plan(steps, items.column_names)
    if args.only is not None:
        return _make_one(plan, items, args)
    store = Store(Path(args.output).absolute(), items, unit)
    if args.plan:
        report, _ = summarise(plan, store)
    else:
        write_atomically(store.folder / CONFIG, text.encode())
        run_plan(plan, store, retry_failed=args.retry_failed, executor=args.executor)
        report = json.loads((store.folder / "report.json").read_text())
        write_report(plan, store, store.folder / PAGE)
        _complain(store.folder / "dead_letters.csv", report["failed"])
    if args.json:
        say(json.dumps({"output": str(store.folder), **report}))
    else:
        say("\n".join([*_table(report), _closing(report, args)]))
    return 0 if args.plan or any(stage["done"] for stage in report["stages"]) else 2


def config_parser() -> ArgumentParser:
    """The parser of an engine configuration; `read_steps` builds the stages too."""
    from vfusion3d.engine import Step

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--steps", type=list[Step], required=True)
    parser.add_argument("--unit", type=int, default=64)
    return parser


def read_steps(config: str) -> tuple[list[Step], int, str]:
    """The steps of an engine configuration, the items of a unit, and the file itself.

    Args:
        config: A YAML file, or the name of one that ships with the package, ``recipes/engine/...``.

    Raises:
        UsageError: naming the key that cannot be used.
    """
    from vfusion3d.commands.arguments import one_line

    path = find_recipe(config) if config.startswith("recipes/") and not Path(config).is_file() else Path(config)
    if path is None or not path.is_file():
        raise UsageError(f"The configuration {config} does not exist; `vfusion3d recipes` lists those of the package.")
    parser = config_parser()
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise UsageError(f"The configuration {config} is empty; list the steps.")
        parsed = parser.parse_string(text)
        built = parser.instantiate_classes(parsed)
    except UnicodeDecodeError as error:
        raise UsageError(f"The configuration {config} is no UTF-8 text ({error}); name a YAML file.") from error
    except (ArgumentError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"The configuration {config} cannot be used: {one_line(str(error))}.") from error
    if not built.steps:
        raise UsageError(f"The configuration {config} has no steps; list at least one.")
    return built.steps, built.unit, text


def _make_one(plan: Plan, items: pa.Table, args: Any) -> int:
    """One item into a folder of its own."""
    from vfusion3d.engine import regenerate
    from vfusion3d.engine.one_item import ITEM, write_row

    row = regenerate(plan, items, args.only)
    with result_folder(args.output, marker=ITEM) as folder:
        write_row(row, folder)
    if args.json:
        say((Path(args.output) / ITEM).read_text())
    else:
        why = f"; {row['error']}" if row["error"] else ""
        say(f"{args.output}: item {args.only!r} made anew, see {ITEM}{why}")
    return 0 if row["error"] is None else 2


def _table(report: dict[str, Any]) -> list[str]:
    """A line per stage."""
    rows = [("stage", "done", "failed", "skipped", "left", "items/s", "GPU-hours")]
    for stage in report["stages"]:
        counts = (f"{stage[name]:,}" for name in ("done", "failed", "skipped", "left"))
        speed = stage["items_per_second"]
        rows.append((stage["name"], *counts, "-" if speed is None else f"{speed:.3g}", f"{stage['gpu_hours']:.3g}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _closing(report: dict[str, Any], args: Any) -> str:
    if args.plan:
        left = sum(stage["left"] for stage in report["stages"])
        return f"{left:,} results could be made now of {report['items']:,} items, and others when those are there."
    return f"{args.output}: see {PAGE}, and dead_letters.csv for {report['failed']:,} failures."


def _complain(path: Path, failed: int) -> None:
    """The first failures, and where the others are."""
    with open(path, newline="", encoding="utf-8") as file:
        for row in itertools.islice(csv.DictReader(file), _SHOWN):
            print(f"{row['id']}: {row['stage']}: {row['reason']}", file=sys.stderr)
    if failed > _SHOWN:
        print(f"... and {failed - _SHOWN:,} more; see {path}.", file=sys.stderr)
