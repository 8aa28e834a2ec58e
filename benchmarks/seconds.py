"""Seconds and memory of one asset by step: read, encode, decode, render, mesh, texture, write.

    python benchmarks/seconds.py PICTURE --model nano --device cpu

The picture becomes an asset as `vfusion3d reconstruct` makes it: turntable, simplified mesh, texture, GLB. Each step is
timed several times, the fastest counts, and nothing prepared in one run is kept for the next. `--model` also takes the
name of an architecture, `vfusion3d` say, whose random weights take as long as trained ones; the surface is then put
where the density has its upper decile, since random weights have none. Precisions are those of the networks; rays and
compositing are float32 always.

Memory is the peak during a step, of all its runs. On a GPU it is that of torch's allocations, on a processor that of
the resident set: the process's own memory, libraries included, with what earlier steps left there and without the other
process that cuts textures into charts. Only Linux tells it by step: n/a elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vfusion3d import ImageTo3DPipeline, ReconstructorConfig, TriplaneReconstructor
from vfusion3d.cameras import Cameras
from vfusion3d.errors import VFusion3DError
from vfusion3d.evaluation.environment import hardware_name
from vfusion3d.meshes import write_mesh
from vfusion3d.models import PRESETS, Triplanes
from vfusion3d.pipelines import MESH_FACES, Reconstruction, choose_device

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Clock:
    """Times steps on a device."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self.steps: dict[str, dict[str, float | None]] = {}

    def __call__(self, name: str, step: Callable[[], Any]) -> Any:
        """The step's result; its seconds and the peak of memory during it are kept under its name."""
        cuda = self.device.type == "cuda"
        best, result = float("inf"), None
        if cuda:
            step()  # libraries load and kernels are chosen
        known = reset_peak(self.device)
        for _ in range(self.repeats):
            result = None
            start = time.perf_counter()
            result = step()
            if cuda:
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        self.steps[name] = {"seconds": best, "peak_gib": peak_gib(self.device) if known else None}
        return result


def reset_peak(device: torch.device) -> bool:
    """Let `peak_gib` start anew; whether it can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")  # touches no page, so that timing is not disturbed
    except OSError:
        return False
    return device.type == "cpu"


def peak_gib(device: torch.device) -> float:
    """Most memory since `reset_peak`: torch's on a GPU, the process's own, libraries included, on a processor."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def is_architecture(name: str) -> bool:
    """Whether a name is that of an architecture and not of a model that ships."""
    return name in PRESETS and name != "nano"


def fresh(scene: Triplanes) -> Triplanes:
    """The same object with nothing prepared."""
    return scene[0]


@torch.no_grad()
def measure(
    pipeline: ImageTo3DPipeline, picture: str, precision: str, arguments: argparse.Namespace
) -> dict[str, dict[str, float | None]]:
    """Seconds and memory of every step."""
    model, device = pipeline.model, pipeline.model.device
    clock = Clock(device, arguments.repeats)

    def network(step: Callable[[], Any]) -> Any:
        with torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"):
            return step()

    prepared = clock("read", lambda: pipeline.prepare(picture))
    rgba = prepared.rgba[None].to(device)
    image = rgba if model.config.image_alpha else rgba[:, :3] + 1 - rgba[:, 3:]
    cameras: Cameras = prepared.camera.reshape(1).to(device)
    clock("encode", lambda: network(lambda: model.encoder(image).tokens))
    scene = clock("encode and decode", lambda: network(lambda: model(rgba, cameras)))
    frames, size = arguments.frames, arguments.size
    clock(
        f"render {frames} x {size}^2",
        lambda: Reconstruction(prepared, fresh(scene), model.config).turntable(frames, size),
    )
    threshold = model.config.iso_threshold
    if is_architecture(arguments.model):
        points = torch.rand(1, 20000, 3, device=device) * 1.6 - 0.8
        threshold = float(scene.density(points).quantile(0.9))
    mesh = clock(
        f"mesh {arguments.lattice}^3",
        lambda: fresh(scene).mesh(0, arguments.lattice, threshold, coarse_to_fine=True, faces=arguments.faces or None),
    )
    asset = clock("texture", lambda: fresh(scene).textured(mesh))
    with tempfile.TemporaryDirectory() as folder:
        clock("write", lambda: write_mesh(asset, Path(folder) / "mesh.glb"))
    steps = clock.steps
    whole = sum(float(step["seconds"] or 0) for name, step in steps.items() if name != "encode")
    peaks = [step["peak_gib"] for step in steps.values() if step["peak_gib"] is not None]
    return {**steps, "whole": {"seconds": whole, "peak_gib": max(peaks, default=None)}}


def main() -> int:
    """Measure and print; 0, or 2 if something cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", metavar="PICTURE", help="picture file")
    parser.add_argument("--model", default="nano", help="shipped name, folder, owner/name, or architecture (nano)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (auto)")
    parser.add_argument(
        "--precisions", nargs="+", choices=list(PRECISIONS), default=["fp32", "bf16"], help="(fp32 bf16)"
    )
    parser.add_argument("--frames", type=int, default=40, help="frames of the turntable (40)")
    parser.add_argument("--size", type=int, default=192, help="side of a frame in pixels (192)")
    parser.add_argument("--lattice", type=int, default=128, help="lattice points a side for the mesh (128)")
    parser.add_argument("--faces", type=int, default=MESH_FACES, help=f"triangles at most, 0 for all ({MESH_FACES})")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    results = {}
    try:
        if is_architecture(arguments.model):
            torch.manual_seed(0)
            with choose_device(arguments.device) as device:
                model = TriplaneReconstructor(ReconstructorConfig.preset(arguments.model))
            pipeline = ImageTo3DPipeline(model.to(device))
        else:
            pipeline = ImageTo3DPipeline.from_pretrained(arguments.model, arguments.device)
        for precision in tqdm(arguments.precisions, desc="seconds", unit="precision", file=sys.stderr):
            results[precision] = measure(pipeline, arguments.picture, precision, arguments)
    except VFusion3DError as error:
        print(f"seconds.py: {error}", file=sys.stderr)
        return 2
    device = pipeline.model.device
    name = hardware_name(device)
    if arguments.json:
        print(json.dumps({"model": arguments.model, "device": name, "torch": torch.__version__, "results": results}))
        return 0
    print(f"{arguments.model} on {name}, torch {torch.__version__}\n")
    print("| step | " + " | ".join(f"{key}, s | GiB" for key in results) + " |")
    print("| --- " + "| ---: " * (2 * len(results)) + "|")
    for step in next(iter(results.values())):
        cells = []
        for figures in results.values():
            peak = figures[step]["peak_gib"]
            cells += [f"{figures[step]['seconds']:.3g}", "n/a" if peak is None else f"{peak:.2f}"]
        print("| " + " | ".join([step, *cells]) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
