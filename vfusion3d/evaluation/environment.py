"""What a figure was measured with: versions and hardware, for the record."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("vfusion3d", "torch", "torchmetrics", "vtk", "numpy", "pillow")
"""What every figure depends on."""


def environment(device: str | torch.device | None, *packages: str) -> dict[str, str]:
    """Versions and hardware, as plain values.

    Args:
        device: Where the method ran; None where it does not say.
        packages: What it needed besides `PACKAGES`; those that are not installed are left out.
    """
    found = {}
    for name in (*PACKAGES, *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    gpu = {"gpu": hardware_name("cuda")} if torch.cuda.is_available() else {}
    machine = {"processor": hardware_name("cpu"), **gpu, "device": "unknown" if device is None else str(device)}
    return {**found, "python": platform.python_version(), **machine}


def hardware_name(device: str | torch.device = "cpu") -> str:
    """A device as its maker calls it: ``NVIDIA H100 80GB HBM3``, ``AMD EPYC 9B45, 2 threads``."""
    kind = torch.device(device)
    if kind.type == "cuda":
        return torch.cuda.get_device_name(kind)
    if kind.type != "cpu":
        return str(kind)
    return f"{_processor_name()}, {torch.get_num_threads()} threads"


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
