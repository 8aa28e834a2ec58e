"""Memory of one device that trains full models, estimated, as Markdown tables: the reconstructor, and video models.

    python benchmarks/memory.py > memory.md
    python benchmarks/memory.py --only video

Counts what `vfusion3d plan` counts, without weights and without a GPU; see `vfusion3d.training.cost` and `video_cost`.
"""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from vfusion3d.models import ReconstructorConfig
from vfusion3d.training.plan import RunSettings, estimate_cost, estimate_memory

GIB = 2**30
BATCHES = (1, 2, 4, 8, 16, 32)
DEVICES = (("one device", 1, False, False), ("DDP", 8, True, False), ("FSDP2, 8", 8, False, True))
DEVICES += (("FSDP2, 128", 128, False, True),)
VIDEO_BATCHES = (1, 2, 3, 4)
MODES = (  # backbone, what is trained, pixels a side, options
    ("svd", "temporal", 512, ()),
    ("svd", "all", 512, ()),
    ("emu", "temporal", 512, ()),
    ("emu", "all", 512, ()),
    ("i2vgen", "temporal", 512, ()),
    ("wan", "lora", 480, (("half", True),)),
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("reconstructor", "video"), help="one of the tables")
    only = parser.parse_args().only
    if only != "video":
        reconstructor()
    if only != "reconstructor":
        video()


def reconstructor() -> None:
    """The table of the reconstructor."""
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


def video() -> None:
    """The table of video models."""
    from vfusion3d.training.video_cost import VideoModel, video_step_cost

    head = ["backbone", "train", "pixels", "trained weights", "gradient_checkpointing", "weights, gradients, moments"]
    head += [f"batch {size}" for size in VIDEO_BATCHES]
    print("\nGiB on each device, estimated: bf16-mixed, AdamW, DDP, orbits of 16 frames, rank 64; frozen weights in")
    print("float32, Wan's in bfloat16; text and picture encoders included, batches of orbits.\n")
    print("| " + " | ".join(head) + " |")
    print("| --- | --- " + "| ---: " * (len(head) - 2) + "|")
    rows = [(mode, flag) for mode in MODES for flag in (True, False)]
    for (backbone, train, pixels, options), flag in tqdm(rows, desc="count", file=sys.stderr):
        cost = video_step_cost(VideoModel(backbone, "released", train, 64, options), pixels, flag, True)
        runs = [RunSettings(10**6, 1, size, 80, distributed=True) for size in VIDEO_BATCHES]
        memory = [estimate_memory(run, cost) for run in runs]
        state = (memory[0].weights + memory[0].gradients + memory[0].moments) / GIB
        cells = [backbone, train, f"{pixels}", f"{cost.parameters:,}", "on" if flag else "off", f"{state:.1f}"]
        print("| " + " | ".join([*cells, *(f"{part.total / GIB:.1f}" for part in memory)]) + " |", flush=True)


if __name__ == "__main__":
    main()
