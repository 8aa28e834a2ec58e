"""Time and memory of a training step of the reconstructor, measured on one device, beside what `plan` estimates.

    python benchmarks/training_step.py --device cuda --batches 1 4 8 16

A step is what the paper's recipes do: 4 views of 128 x 128 pixels of pictures of 384, 64 + 64 samples a ray, the
renderer recomputed, the perceptual loss on VGG (random features: as large and slow as LPIPS), opacity, products in
bfloat16, AdamW. Objects are procedural and made on the device before the clock starts; no weights are needed. `peak` is
what torch's allocator held at most (n/a on a processor), `estimate` what `vfusion3d plan` says of the same run. A
batch that does not fit says so, and larger ones are left out. Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from tqdm import tqdm

from vfusion3d.data import ProceduralDataModule
from vfusion3d.errors import VFusion3DError
from vfusion3d.evaluation.environment import hardware_name
from vfusion3d.models import PRESETS
from vfusion3d.pipelines import choose_device
from vfusion3d.training import LossWeights, PatchSettings, ReconstructorTraining
from vfusion3d.training.plan import RunSettings, estimate_cost, estimate_memory

GIB = 2**30


def batch_of(count: int, views: int, resolution: int, device: torch.device) -> Any:
    """Procedural objects as a training batch on the device."""
    data = ProceduralDataModule(samples_per_epoch=count, batch_size=count, views=views, resolution=resolution)
    described = next(iter(data.train_dataloader()))
    return data.on_after_batch_transfer(move_data_to_device(described, device), 0)


def measure(module: ReconstructorTraining, batch: Any, repeats: int) -> tuple[float, float | None]:
    """Seconds of the fastest step, and GiB held at most."""
    device = batch["images"].device
    optimizer = module.configure_optimizers()
    cuda = device.type == "cuda"
    best = float("inf")
    for turn in range(repeats + 1):  # the first step allocates, and counts for memory alone
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            terms = module.loss_terms(batch)
            loss: Tensor = torch.stack([value * weight for value, weight in terms.values()]).sum()
        loss.backward()
        optimizer.step()
        if cuda:
            torch.cuda.synchronize()
        if turn:
            best = min(best, time.perf_counter() - start)
    return best, torch.cuda.max_memory_allocated() / GIB if cuda else None


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each batch size, with and without gradient checkpointing of the transformers."""
    device = torch.device(arguments.device)
    losses = LossWeights(trunk_weights="random")
    patches = PatchSettings(size=arguments.patch)
    found = []
    for checkpointing in (True, False):
        torch.manual_seed(0)
        with device:
            module = ReconstructorTraining(
                arguments.preset,
                losses=losses,
                patches=patches,
                gradient_checkpointing=checkpointing,
                compile=arguments.compile,
            )
        module.to(device)
        run = RunSettings(10**6, 1, 1, losses=losses, patches=patches, checkpointing=checkpointing)
        cost = estimate_cost(run, module.model.config)
        for size in tqdm(arguments.batches, desc=f"checkpointing {checkpointing}", unit="batch size"):
            row: dict[str, Any] = {"gradient_checkpointing": checkpointing, "batch": size}
            row["estimate_gib"] = estimate_memory(RunSettings(10**6, 1, size), cost).total / GIB
            found.append(row)
            batch = batch_of(size, 4, arguments.resolution, device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                seconds, peak = measure(module, batch, arguments.repeats)
            except torch.cuda.OutOfMemoryError:
                row["failed"] = "does not fit"
                module.zero_grad(set_to_none=True)
                break
            finally:
                del batch
                gc.collect()
            row |= {"seconds": seconds, "samples_per_second": size / seconds, "peak_gib": peak}
            row["tflops"] = cost.sample_flops * size / seconds / 1e12
        del module
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return found


def main() -> int:
    """Measure and print; 0, or 2 if the device is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cpu, ... (default: cuda)")
    parser.add_argument("--preset", default="vfusion3d", choices=sorted(PRESETS), help="architecture (vfusion3d)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8], help="objects per step (1 4 8)")
    parser.add_argument("--resolution", type=int, default=384, help="side of the pictures in pixels (384)")
    parser.add_argument("--patch", type=int, default=128, help="side of a supervised patch in pixels (128)")
    parser.add_argument("--repeats", type=int, default=2, help="steps of which the fastest counts (2)")
    parser.add_argument("--compile", action="store_true", help="compile the transformers' layers")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    if min(arguments.batches) < 1:
        parser.error("--batches must be at least 1")
    try:
        choose_device(arguments.device)
        found = rows(arguments)
    except VFusion3DError as error:
        print(f"training_step.py: {error}", file=sys.stderr)
        return 2
    name = hardware_name(arguments.device)
    if arguments.json:
        print(json.dumps({"device": name, "torch": torch.__version__, "preset": arguments.preset, "rows": found}))
        return 0
    print(f"{arguments.preset} on {name}, torch {torch.__version__}\n")
    print("| gradient_checkpointing | batch | seconds a step | objects a second | TFLOP/s | peak GiB | estimate GiB |")
    print("| --- " + "| ---: " * 6 + "|")
    for row in found:
        cells = ["on" if row["gradient_checkpointing"] else "off", str(row["batch"])]
        if "failed" in row:
            cells += [row["failed"], "", "", ""]
        else:
            peak = row["peak_gib"]
            cells += [f"{row[key]:.3g}" for key in ("seconds", "samples_per_second", "tflops")]
            cells.append("n/a" if peak is None else f"{peak:.1f}")
        print("| " + " | ".join([*cells, f"{row['estimate_gib']:.1f}"]) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
