"""How much faster the shipped renderer, mesh extraction and networks are than the published way, in one run.

    python benchmarks/speed.py --json

Ratios of CPU time, best of several, one thread by default, with random weights at the size of the released VFusion3D.
Two twins stand for the published way, both evaluating points as a textbook writes it (planes looked up, concatenated,
sent through the MLP): the accuracy twin samples as we do and gives the errors; the cost twin samples as the published
code does, all rays in one call, and gives the ratios. Where a twin would take minutes or tens of gigabytes it is timed
on a part and scaled, as the JSON says under `twins`. Progress goes to standard error. Takes about nine minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scipy.spatial import KDTree
from torch import Tensor

from vfusion3d import Cameras, ReconstructorConfig, TriplaneReconstructor, orbit
from vfusion3d.metrics import psnr
from vfusion3d.models import Triplanes
from vfusion3d.models.field import TriplaneField
from vfusion3d.models.plane_lattice import PlaneLattice
from vfusion3d.rendering.lattice import near_surface
from vfusion3d.rendering.parity import render_rays_parity
from vfusion3d.rendering.textbook import TextbookField, textbook_field, textbook_render

TWINS = {
    "accuracy": "vfusion3d.rendering.textbook.textbook_render: our samples, textbook evaluation",
    "cost": "vfusion3d.rendering.parity.render_rays_parity over TextbookField: the published samples, textbook "
    "evaluation, all rays in one call",
    "scaled": "384 x 384 views: the cost twin of 128 x 128 times 9; lattices: its points on a sixteenth of the lattice "
    "times 16",
}
QUARTER, TENTH = 0.555, 0.37  # radii of balls that cover that share of the view
ISO = 10.0

Results = dict[str, Any]


class Bench:
    """Scenes, twins and clocks."""

    def __init__(self, small: bool, repeats: int) -> None:
        self.small, self.repeats = small, repeats
        self.view, self.large, self.lattice = (16, 48, 32) if small else (128, 384, 256)
        self.samples = 16 if small else 64
        self.camera: Cameras = orbit(1, radius=1.5, fov=67.38).unsqueeze(0)

    def scene(self, radius: float = 0.0) -> Triplanes:
        """Smooth random planes and a random MLP; with a radius, the density is that of a ball."""
        changes: dict[str, Any] = {"density_sphere_slope": 200.0, "density_sphere_radius": radius} if radius else {}
        if self.small:
            changes |= {"triplane_high": 32, "triplane_channels": 8, "field_dim": 16}
        config = ReconstructorConfig.preset("vfusion3d", **changes)
        torch.manual_seed(0)
        field = TriplaneField(config)
        for layer in field.layers[::2]:
            torch.nn.init.kaiming_normal_(layer.weight)
        size = config.triplane_high + 8
        noise = torch.randn(3, config.triplane_channels, size, size)
        planes = torch.nn.functional.avg_pool2d(noise, 9, 1)[None] * 4.5
        return Triplanes(field, planes, torch.eye(4)[None], None, None, self.samples, self.samples)

    def rays(self, size: int) -> tuple[Tensor, Tensor]:
        """Rays of the view, ``[1, size^2, 3]`` each."""
        origins, directions = self.camera.rays(size, size)
        return origins.flatten(1, 3), directions.flatten(1, 3)

    def ratio(self, twin: Callable[[], Any], ours: Callable[[], Any], repeats: int | None = None) -> float:
        """CPU time of the twin over ours, the best of several runs of each; in turn, since machines change speed."""
        best = [float("inf")] * 2
        for _ in range(repeats or self.repeats):
            for which, run in ((0, twin), (1, ours), (1, ours)):
                start = time.process_time()
                run()
                best[which] = min(best[which], time.process_time() - start)
        return best[0] / best[1]

    def cost_twin(self, scene: Triplanes, size: int) -> Any:
        """The published way to render the view."""
        return render_rays_parity([TextbookField(scene)], *self.rays(size), self.samples, self.samples, chunk=1 << 40)


def fresh(scene: Triplanes, run: Callable[[], Any]) -> Any:
    """Run with nothing prepared: no projected table, no occupancy grid."""
    scene._fields.clear()
    scene._grids.clear()
    return run()


@torch.no_grad()
def render(bench: Bench, results: Results) -> None:
    """Exact rendering, eager and compiled."""
    scene, size = bench.scene(), bench.view
    origins, directions = bench.rays(size)
    truth = textbook_render(scene, origins[0], directions[0], bench.samples, bench.samples)
    wanted = truth.rgb + 1 - truth.opacity[:, None]

    def view() -> Tensor:
        rendered: Tensor = fresh(scene, lambda: scene.render(bench.camera, size, size)).rgb
        return rendered[0, 0].permute(1, 2, 0).reshape(-1, 3)

    def twin() -> Any:
        return bench.cost_twin(scene, size)

    results["render_exact_ratio"] = bench.ratio(twin, view)
    results["render_exact_max_error"] = float((view() - wanted).abs().max())
    scene.field.compile(dynamic=False)
    view()
    results["render_exact_compiled_ratio"] = bench.ratio(twin, view)
    results["render_exact_compiled_max_error"] = float((view() - wanted).abs().max())


@torch.no_grad()
def occupancy(bench: Bench, results: Results) -> None:
    """Skipping empty space around an object, and in fog, where there is none."""
    for name, radius in (("quarter", QUARTER), ("tenth", TENTH)):
        scene = bench.scene(radius)
        exact = scene.render(bench.camera, bench.large, bench.large)

        def fast(scene: Triplanes = scene) -> Any:
            return fresh(scene, lambda: scene.render(bench.camera, bench.large, bench.large, skip_empty=True))

        scale = (bench.large / bench.view) ** 2
        twin = bench.ratio(lambda scene=scene: bench.cost_twin(scene, bench.view), fast)
        results[f"render_occupancy_{name}_ratio"] = twin * scale
        results[f"render_occupancy_{name}_psnr"] = float(psnr(fast().rgb[0], exact.rgb[0]).min())
        results[f"render_occupancy_{name}_cover"] = float((exact.opacity > 0.5).float().mean())
    fog = bench.scene()
    views = [
        lambda skip=skip: fresh(fog, lambda: fog.render(bench.camera, bench.large, bench.large, skip_empty=skip))
        for skip in (False, True)
    ]
    results["render_fog_ratio"] = bench.ratio(views[0], views[1], 2)
    results["render_fog_psnr"] = float(psnr(views[1]().rgb[0], views[0]().rgb[0]).min())


def train(bench: Bench, results: Results) -> None:
    """A training step of the renderer: one view, its loss and all gradients."""
    scene, size = bench.scene(), bench.view // 2
    scene.planes.requires_grad_()
    steps = {name: _training_step(bench, scene, size, name) for name in ("accuracy", "cost", "ours")}
    results["train_speed_ratio"] = bench.ratio(steps["cost"], steps["ours"])
    results["train_memory_ratio"] = _extra_gb(bench, f"train cost {size}") / _extra_gb(bench, f"train ours {size}")
    # Relative to a gradient's largest number, with smooth activations: rounding flips single ReLUs.
    layers = scene.field.layers
    for number in range(1, len(layers) - 1, 2):
        layers[number] = torch.nn.SiLU()
    pairs = zip(steps["accuracy"](), steps["ours"](), strict=True)
    results["train_max_error"] = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def _training_step(bench: Bench, scene: Triplanes, size: int, name: str) -> Callable[[], tuple[Tensor, ...]]:
    origins, directions = bench.rays(size)
    target = torch.rand(size * size, 3, generator=torch.Generator().manual_seed(0))

    def step() -> tuple[Tensor, ...]:
        if name == "ours":
            seen = scene.render(bench.camera, size, size).rgb[0, 0].permute(1, 2, 0).reshape(-1, 3)
        else:
            if name == "cost":
                rays = bench.cost_twin(scene, size)
                rgb, opacity = rays.rgb[0], rays.opacity[0]
            else:
                rays = textbook_render(scene, origins[0], directions[0], bench.samples, bench.samples)
                rgb, opacity = rays.rgb, rays.opacity
            seen = rgb + (1 - opacity)[:, None]
        loss = (seen - target).square().mean()
        return torch.autograd.grad(loss, [scene.planes, *scene.field.parameters()])

    return step


@torch.no_grad()
def memory(bench: Bench, results: Results) -> None:
    """What a large view needs beyond the model."""
    results[f"render_{bench.large}_extra_gb"] = _extra_gb(bench, f"render {bench.large}")


def _extra_gb(bench: Bench, job: str) -> float:
    """Most memory that a job adds to a process of its own, GiB; never too little."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    process = context.Process(target=_measure, args=(queue, bench.small, job))
    process.start()
    value = float(queue.get())
    process.join()
    return value


def _measure(queue: Any, small: bool, job: str) -> None:
    torch.set_num_threads(1)
    bench = Bench(small, 1)
    scene = bench.scene()
    kind, *rest = job.split()
    if kind == "train":
        scene.planes.requires_grad_()
        run: Callable[[], Any] = _training_step(bench, scene, int(rest[1]), rest[0])
    else:

        def run() -> Any:
            with torch.no_grad():
                return scene.render(bench.camera, int(rest[0]), int(rest[0]))

    torch.rand(512, 512) @ torch.rand(512, 512)  # the library's own buffers
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    run()
    # Not getrusage, whose peak a new process inherits.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    queue.put(max(int(peak.split()[1]) * 1024 - before, 1) / 2**30)


@torch.no_grad()
def mesh(bench: Bench, results: Results) -> None:
    """The density lattice of a mesh: everywhere, and around the surface of a compact object; vertex colours."""
    size = bench.lattice
    scene = bench.scene()
    axis = torch.linspace(-1, 1, size)
    part = torch.cartesian_prod(axis[::16][: size // 16], axis, axis)
    # The published code evaluates colours too and drops them.
    field = scene.object_field(0)
    results["mesh_exact_ratio"] = 16 * bench.ratio(
        lambda: textbook_field(scene, part), lambda: PlaneLattice(field, size).everywhere()
    )
    ours = PlaneLattice(field, size).everywhere()[::16][: size // 16].flatten()
    theirs = textbook_field(scene, part)[0]
    results["mesh_exact_max_error"] = float((ours - theirs).abs().max())

    ball = bench.scene(QUARTER)
    field = ball.object_field(0)
    results["mesh_coarse_to_fine_ratio"] = 16 * bench.ratio(
        lambda: textbook_field(ball, part), lambda: near_surface(PlaneLattice(field, size), ISO)
    )
    whole, near = (ball.mesh(0, size, ISO, coarse_to_fine=fine).vertices for fine in (False, True))
    distance = KDTree(near).query(whole)[0]
    results["mesh_coarse_to_fine_vertices"] = float((distance < 1e-5).mean())
    results["mesh_coarse_to_fine_max_error"] = float(distance.max())

    # The published default lattice has 512 points a side.
    vertices = torch.from_numpy(ball.mesh(0, 2 * size, ISO, coarse_to_fine=True).vertices)
    results["vertex_colour_ratio"] = bench.ratio(
        lambda: textbook_field(ball, vertices), lambda: field.density_and_colour(vertices)
    )
    colours = field.density_and_colour(vertices)[1], textbook_field(ball, vertices)[1]
    results["vertex_colour_max_error"] = float((colours[0] - colours[1]).abs().max())


@torch.no_grad()
def networks(bench: Bench, results: Results) -> None:
    """Encoder and decoder in bfloat16 against float32."""
    config = ReconstructorConfig.preset("tiny" if bench.small else "vfusion3d")
    torch.manual_seed(0)
    model = TriplaneReconstructor(config).eval()
    picture = torch.rand(1, 4 if config.image_alpha else 3, config.image_size, config.image_size)
    tokens, embedding = model.encoder(picture).tokens, torch.randn(1, config.camera_dim)
    jobs: dict[str, Callable[[], Tensor]] = {
        "encoder": lambda: model.encoder(picture).tokens,
        "decoder": lambda: model.decoder(tokens, embedding),
    }
    for name, job in jobs.items():

        def halved(job: Callable[[], Tensor] = job) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return job().float()

        full, half = job(), halved()
        results[f"{name}_bf16_ratio"] = bench.ratio(job, halved, 1)
        results[f"{name}_bf16_max_error"] = float((half - full).norm() / full.norm())


@torch.no_grad()
def cuda(bench: Bench, device: str, results: Results) -> None:
    """Milliseconds and memory on an accelerator."""
    scene = bench.scene(QUARTER)
    camera = bench.camera.to(device)
    scene = Triplanes(
        scene.field.to(device),
        scene.planes.to(device),
        scene.to_model.to(device),
        None,
        None,
        bench.samples,
        bench.samples,
    )
    jobs: dict[str, Callable[[], Any]] = {
        f"render_{bench.view}": lambda: fresh(scene, lambda: scene.render(camera, bench.view, bench.view)),
        f"render_{bench.large}": lambda: fresh(scene, lambda: scene.render(camera, bench.large, bench.large)),
        f"render_{bench.large}_skip_empty": lambda: fresh(
            scene, lambda: scene.render(camera, bench.large, bench.large, skip_empty=True)
        ),
        "mesh_lattice": lambda: fresh(scene, lambda: PlaneLattice(scene.object_field(0), bench.lattice).everywhere()),
        "mesh_coarse_to_fine": lambda: fresh(
            scene, lambda: near_surface(PlaneLattice(scene.object_field(0), bench.lattice), ISO)
        ),
    }
    config = ReconstructorConfig.preset("tiny" if bench.small else "vfusion3d")
    model = TriplaneReconstructor(config).eval().to(device)
    picture = torch.rand(1, 4 if config.image_alpha else 3, config.image_size, config.image_size, device=device)

    def planes(dtype: torch.dtype) -> Any:
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            return model(picture, orbit(1).to(device)).planes

    jobs |= {f"planes_{str(dtype)[6:]}": lambda dtype=dtype: planes(dtype) for dtype in (torch.float32, torch.bfloat16)}
    for name, job in jobs.items():
        job()
        torch.cuda.reset_peak_memory_stats()
        before, best = torch.cuda.memory_allocated(), float("inf")
        for _ in range(bench.repeats):
            torch.cuda.synchronize()
            start = time.perf_counter()
            job()
            torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        results[f"{name}_ms"] = best * 1000
        results[f"{name}_extra_gb"] = (torch.cuda.max_memory_allocated() - before) / 2**30


GROUPS: dict[str, Callable[[Bench, Results], None]] = {
    "render": render,
    "occupancy": occupancy,
    "memory": memory,
    "train": train,
    "mesh": mesh,
    "networks": networks,
}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        text = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    except OSError:
        text = {}
    return {
        "processor": text.get("model name", platform.processor()),
        "amx": "amx_tile" in text.get("flags", ""),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> int:
    """Measure and print; 0, or 2 if the device is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--only", nargs="*", choices=list(GROUPS), default=list(GROUPS), help="groups to measure (all)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: 1)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the best counts (default: 3)")
    parser.add_argument("--device", default="cpu", help="cuda adds absolute milliseconds and memory (default: cpu)")
    parser.add_argument(
        "--small", action="store_true", help="a small model, to try the script; its ratios mean nothing"
    )
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not torch.cuda.is_available():
        print(f"speed.py: the device {arguments.device} is not here; leave --device out.", file=sys.stderr)
        return 2
    torch.set_num_threads(arguments.threads)
    bench = Bench(arguments.small, arguments.repeats)
    results: Results = {}
    for name in arguments.only:
        start = time.perf_counter()
        GROUPS[name](bench, results)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    if arguments.device != "cpu":
        cuda(bench, arguments.device, results)
    if arguments.json:
        print(json.dumps({**results, "twins": TWINS, "machine": machine(), "small": arguments.small}))
        return 0
    for name, value in results.items():
        print(f"{name:<40}{value:>12.3g}")
    print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
