"""A table of runs as the paper's Tables 3 to 6: SSIM and LPIPS of novel views, CLIP scores of turntables.

    python benchmarks/novel_view.py --meshes MESHES --model A --output runs/a/views
    python benchmarks/clip.py A_TURNTABLES --inputs PICTURES --captions captions.csv --output runs/a/clip
    python benchmarks/composite.py runs/a runs/b --published table-6

A run is a folder with `views/results.json` and `clip/results.json`. Both must be of the composite protocol's parts, by
hash. Unseen and seen objects stand apart where both know them, the floors below. `--published` prints a table of the
paper, marked as such; its test sets and cameras are unpublished.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vfusion3d.errors import UsageError, VFusion3DError
from vfusion3d.evaluation.composite import CompositeProtocol, composite_rows, composite_table
from vfusion3d.evaluation.published import published, published_rows


def main() -> int:
    """Gather and print; 0, or 2 if something cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders with views/results.json and clip/results.json")
    parser.add_argument("--protocol", default="ablation", help="of protocols/composite, or a YAML file (ablation)")
    parser.add_argument("--published", choices=sorted(published()), help="a table of the paper to print below")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    try:
        protocol = CompositeProtocol.load(arguments.protocol)
        rows = {}
        for run in map(Path, arguments.runs):
            if run.resolve().name in rows:
                raise UsageError(f"Two runs are named {run.resolve().name}; rename a folder.")
            rows[run.resolve().name] = composite_rows(protocol, run / "views", run / "clip")
    except VFusion3DError as error:
        print(f"composite.py: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({"protocol": protocol.name, "protocol_hash": protocol.hash, "rows": rows}))
        return 0
    print(f"composite protocol {protocol.name} {protocol.hash[:12]}: {protocol.description}\n")
    print(composite_table(rows))
    print("\nThe paper's objects, prompts and cameras are unpublished: figures compare only under one protocol hash.")
    if arguments.published:
        print(f"\n{published_rows(arguments.published)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
