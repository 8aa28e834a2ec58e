"""Memory of one device that trains the full model, estimated, as a Markdown table.

    python benchmarks/memory.py > memory.md

Counts what `vfusion3d plan` counts, without weights and without a GPU; see `vfusion3d.training.cost`.
"""

from __future__ import annotations

import sys

from tqdm import tqdm

from vfusion3d.models import ReconstructorConfig
from vfusion3d.training.plan import RunSettings, estimate_cost, estimate_memory

GIB = 2**30
BATCHES = (1, 2, 4, 8, 16, 32)
DEVICES = (("one device", 1, False, False), ("DDP", 8, True, False), ("FSDP, 8", 8, False, True))
DEVICES += (("FSDP, 128", 128, False, True),)


def main() -> None:
    """Print the table."""
    config = ReconstructorConfig.preset("vfusion3d")
    head = ["devices", "gradient_checkpointing", "weights, gradients, moments", *(f"batch {size}" for size in BATCHES)]
    print(
        "GiB on each device, estimated: bf16-mixed, AdamW, LPIPS on VGG, 4 views of 128 x 128 pixels, 64 + 64 samples"
    )
    print("a ray, the renderer recomputed.\n")
    print("| " + " | ".join(head) + " |")
    print("| --- | --- " + "| ---: " * (len(head) - 2) + "|")
    costs = {
        flag: estimate_cost(RunSettings(1024, 1, 1, checkpointing=flag), config)
        for flag in tqdm((True, False), desc="count", file=sys.stderr)
    }
    for name, devices, distributed, sharded in DEVICES:
        for flag, cost in costs.items():
            cells = []
            for size in BATCHES:
                run = RunSettings(10**6, 1, size, devices, distributed=distributed, sharded=sharded)
                memory = estimate_memory(run, cost)
                cells.append(f"{memory.total / GIB:.1f}")
            state = (memory.weights + memory.gradients + memory.moments) / GIB
            print("| " + " | ".join([name, "on" if flag else "off", f"{state:.1f}", *cells]) + " |")


if __name__ == "__main__":
    main()
