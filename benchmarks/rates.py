"""Good rate and SfM rate of generated orbits.

    vfusion3d generate --config recipes/engine/paper.yaml ...
    vfusion3d data pack RUN --output SHARDS
    python benchmarks/rates.py SHARDS --protocols good-rate sfm-rate

SHARDS holds all finished orbits of a run, with the columns that its stages (the quality filter, structure from motion)
wrote; orbits without a judgement are left out of the share and counted. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys

from vfusion3d.errors import VFusion3DError
from vfusion3d.evaluation.rates import RateProtocol, rate_of


def main() -> int:
    """Count and print; 0, or 2 if something cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+", metavar="SHARDS", help="shard sets: folders or addresses")
    parser.add_argument(
        "--protocols", nargs="+", default=["good-rate"], help="good-rate, sfm-rate, YAML files (good-rate)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    rows = []
    try:
        for protocol in map(RateProtocol.load, arguments.protocols):
            for location in arguments.shards:
                rate = rate_of(location, protocol)
                row = {"set": location, "protocol": protocol.name, "protocol_hash": protocol.hash}
                rows.append({**row, **vars(rate), "interval": rate.interval._asdict()})
    except VFusion3DError as error:
        print(f"rates.py: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({"rates": rows}))
        return 0
    print("| set | protocol | passed | judged | items | rate |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        share = "{value:.1%} [{low:.1%}, {high:.1%}]".format(**row["interval"])
        numbers = f"{row['passed']} | {row['judged']} | {row['items']}"
        print(f"| {row['set']} | {row['protocol']} {row['protocol_hash'][:12]} | {numbers} | {share} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
