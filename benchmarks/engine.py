"""What the data engine's runner costs beside its stages, and what millions of items cost.

    python benchmarks/engine.py
    python benchmarks/engine.py --items 10000 --json
    python benchmarks/engine.py --cost 4000000

Figures, for a chain of three stages that do next to nothing (`--payload` bytes of picture an item):

- `overhead_ms`: processor milliseconds per item and stage of a run over a store (reading, conditions, writing,
  journal, report) beyond those of the stages;
- `direct_ms`: the same of the stages, called one after another on the same batches in memory; `ratio`: all over these;
- `rerun_ms`: of a run that finds everything done;
- `bytes`: on the disk per item beyond its payload, of all three stages together.

Processor time, the best of `--repeats` passes in one run, so that a busy machine matters little.

With `--cost N`: these figures first, then a table of what N items cost in the paper's chain. Seconds and sizes per item
of the stages are assumptions (`CHAIN`), as is the share of items that reach them; the runner's part is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from vfusion3d.engine import Plan, Row, Stage, Step, Store, item_seed, run
from vfusion3d.errors import UsageError, VFusion3DError


class Number(Stage):
    """The item's own number."""

    name, reads = "number", ("prompt",)
    writes: ClassVar = {"number": pa.int64()}

    def process(self, rows: Sequence[Row]) -> Sequence[Row]:
        """One each."""
        return [{"number": item_seed(row["id"])} for row in rows]


class Payload(Stage):
    """Bytes in place of a picture."""

    name, reads = "payload", ("number",)
    writes: ClassVar = {"image": pa.binary()}

    def __init__(self, size: int) -> None:
        super().__init__(size=size)
        self.size = size

    def process(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Cheap ones."""
        return [{"image": row["number"].to_bytes(8, "big") * (self.size // 8)} for row in rows]


class Length(Stage):
    """Reads the picture, writes a number."""

    name, reads = "length", ("image",)
    writes: ClassVar = {"length": pa.int64()}

    def process(self, rows: Sequence[Row]) -> Sequence[Row]:
        """One each."""
        return [{"length": len(row["image"])} for row in rows]


class Assumed(NamedTuple):
    """A stage of the paper's chain: GPU-seconds per item, bytes that it keeps, and the share of items it is run on."""

    stage: str
    seconds: float
    bytes: float
    share: float


CHAIN = (
    Assumed("caption filter, 13B model", 0.05, 10, 1.0),
    Assumed("text to image, 1024 px", 5.0, 1.4e6, 1.0),
    Assumed("centred on white, 512 px (CPU)", 0.0, 0.25e6, 1.0),
    Assumed("image to orbit, 16 x 512 px", 40.0, 16 * 0.2e6, 1.0),
    Assumed("features of 12 frames", 0.1, 6e3, 1.0),
    Assumed("quality, elevation (CPU)", 0.0, 20, 1.0),
    Assumed("masks, 16 frames (CPU)", 0.0, 16 * 0.16e6, 0.675),
    Assumed("packed shards, 16 x 512 px RGBA", 0.0, 16 * 0.12e6, 0.675),
)
"""Items are prompts that the filter has kept, as the paper counts its 4M; 67.5 % of the orbits pass."""


def measure(items: int, unit: int, payload: int, repeats: int) -> dict[str, Any]:
    """All figures of the runner."""
    table = pa.table({"id": [f"{k:08d}" for k in range(items)], "prompt": ["a cup"] * items})
    stages: list[Stage] = [Number(), Payload(payload), Length()]
    plan = Plan([Step(stage, batch_size=unit) for stage in stages], table.column_names)
    direct = whole = rerun = float("inf")
    size = 0
    for _ in range(repeats):
        start = time.process_time()
        for place in range(0, items, unit):
            batch = table.slice(place, unit)
            for stage in stages:
                batch = stage(batch)
        direct = min(direct, time.process_time() - start)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            run(plan, Store(folder, table, unit), quiet=True)
            whole = min(whole, time.process_time() - start)
            start = time.process_time()
            run(plan, Store(folder, table, unit), quiet=True)
            rerun = min(rerun, time.process_time() - start)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    each = 1e3 / items / len(stages)
    return {
        "items": items,
        "unit": unit,
        "payload": payload,
        "direct_ms": round(direct * each, 4),
        "overhead_ms": round((whole - direct) * each, 4),
        "ratio": round(whole / direct, 2),
        "rerun_ms": round(rerun * each, 4),
        "bytes": round(size / items - payload // 8 * 8, 1),
    }


def cost(items: int, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """What each stage costs, then the runner, then all: GPU-hours, CPU-hours and TB."""
    rows = [
        {
            "stage": one.stage,
            "items": round(items * one.share),
            "gpu_hours": round(items * one.share * one.seconds / 3600),
            "cpu_hours": 0.0,
            "tb": round(items * one.share * one.bytes / 1e12, 2),
        }
        for one in CHAIN
    ]
    worked = sum(row["items"] for row in rows)
    runner = {
        "stage": "the runner itself (measured)",
        "items": worked,
        "gpu_hours": 0,
        "cpu_hours": round(worked * figures["overhead_ms"] / 3.6e6, 2),
        "tb": round(worked * figures["bytes"] / 3 / 1e12, 4),
    }
    rows.append(runner)
    rows.append({"stage": "all", "items": items, **{k: round(sum(r[k] for r in rows), 2) for k in list(runner)[2:]}})
    return rows


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2000, help="of the measured runs")
    parser.add_argument("--unit", type=int, default=64, help="items of a unit, and of a batch")
    parser.add_argument("--payload", type=int, default=4096, help="bytes of picture an item")
    parser.add_argument("--repeats", type=int, default=3, help="passes; the best counts")
    parser.add_argument("--cost", type=int, metavar="N", help="then what N items cost")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    try:
        for name in ("items", "unit", "payload", "repeats", "cost"):
            value = getattr(args, name)
            if value is not None and value < 1:
                raise UsageError(f"Argument `{name}` must be at least 1, but got {value}.")
        figures = measure(args.items, args.unit, args.payload, args.repeats)
    except VFusion3DError as error:
        print(f"benchmarks/engine.py: {error}", file=sys.stderr)
        return 2
    rows = [] if args.cost is None else cost(args.cost, figures)
    if args.json:
        print(json.dumps({**figures, **({"cost": rows} if rows else {})}, indent=2))
        return 0
    print("\n".join(f"{name:<12} {value}" for name, value in figures.items()))
    if rows:
        print(f"\n| {args.cost:,} items | items | GPU-hours | CPU-hours | TB |\n|---|---|---|---|---|")
        for row in rows:
            print("| {stage} | {items:,} | {gpu_hours:,} | {cpu_hours:,} | {tb:,} |".format(**row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
