"""Views drawn by Blender Cycles, in a process of its own: the job is numbers and pictures in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vfusion3d.cameras import Cameras
from vfusion3d.errors import MeshError, MissingExtraError, UsageError
from vfusion3d.meshes import blender_script
from vfusion3d.meshes.lighting import LAMBERT, Environment, Lighting, Lights
from vfusion3d.meshes.mesh import Mesh
from vfusion3d.outputs import output_errors

BLENDER_KEY = "VFUSION3D_BLENDER"
"""Environment variable that names Blender where no option does."""


@dataclass(frozen=True)
class BlenderSettings:
    """How to draw with Blender.

    Args:
        command: The ``blender`` executable (tried: 3.4), or a Python that has the package ``bpy`` (tried: 4.5).
        samples: Cycles' samples per pixel.

    Raises:
        UsageError: naming the argument.
    """

    command: str
    samples: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= 65536:
            raise UsageError(f"Argument `samples` must be between 1 and 65536, but got {self.samples}.")


def find_blender(command: str | None = None) -> str:
    """The executable that draws: what was asked for, else ``VFUSION3D_BLENDER``, else ``blender``, else this Python.

    Raises:
        MissingExtraError: if it is none or does not work; the message says what to do.
    """
    chosen = command or os.environ.get(BLENDER_KEY) or shutil.which("blender") or sys.executable
    path = shutil.which(chosen)
    if path is None:
        raise MissingExtraError(f"The Blender executable '{chosen}' does not exist; correct --blender.")
    _command(path)
    return path


def render_with_blender(
    mesh: Mesh,
    cameras: Cameras,
    height: int,
    width: int,
    lighting: Lighting,
    settings: BlenderSettings,
    folder: Path,
) -> np.ndarray:
    """Render views of a mesh; what VTK's renderer returns, with light that is blocked and reflected.

    Args:
        mesh: The mesh, in world units.
        cameras: Cameras of shape ``[V]``.
        height: Image height in pixels.
        width: Image width in pixels.
        lighting: As `VtkRenderer`'s. ``unlit`` gives the same colours; else light adds up in linear light and
            surfaces shade each other.
        settings: Executable and samples.
        folder: A path beside which the job's files may be written for the time being.

    Returns:
        ``[V, height, width, 4]`` uint8 RGBA, straight alpha.

    Raises:
        MeshError: if Blender fails on this mesh.
        MissingExtraError: if Blender does not start.
        OutputError: if the job's files cannot be written.
    """
    with output_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The name of unfinished results, by which they are found after a kill.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent) as place:
            job = _write_job(Path(place), mesh, cameras, height, width, lighting, settings)
            done = subprocess.run([*_command(settings.command), str(job)], capture_output=True, text=True)
            files = [Path(place) / f"view_{index:03d}.png" for index in range(len(cameras.poses))]
            if done.returncode != 0 or not all(file.is_file() for file in files):
                said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
                reason = said[-1].rstrip(".") if said else f"exit code {done.returncode}"
                raise MeshError(f"The mesh {mesh.name} could not be drawn by Blender ({reason}); try VTK.")
            return np.stack([np.asarray(Image.open(file).convert("RGBA")) for file in files])


def _write_job(
    place: Path,
    mesh: Mesh,
    cameras: Cameras,
    height: int,
    width: int,
    lighting: Lighting,
    settings: BlenderSettings,
) -> Path:
    parts = []
    for index, part in enumerate(mesh.parts):
        arrays: dict[str, Any] = {
            "vertices": part.vertices,
            "faces": part.faces,
            "normals": part.normals,
            "colours": part.colours,
        }
        if part.texture is not None and part.uv is not None:
            arrays["uv"] = part.uv
            Image.fromarray(part.texture).save(place / f"texture_{index}.png")
        np.savez(place / f"part_{index}.npz", **arrays)
        parts.append({"textured": "uv" in arrays, "alpha": part.alpha, "alpha_cutoff": part.alpha_cutoff})
    document = {
        "parts": parts,
        "poses": cameras.matrices.double().cpu().tolist(),
        "intrinsics": cameras.intrinsics.double().cpu().tolist(),
        "height": height,
        "width": width,
        "samples": settings.samples,
        "light": _light(LAMBERT if lighting == "lambert" else lighting),
    }
    job = place / "job.json"
    job.write_text(json.dumps(document), encoding="utf-8")
    return job


def _light(lighting: Lighting) -> dict[str, object]:
    if isinstance(lighting, Lights):
        lights = {"ambient": lighting.ambient, "directions": lighting.directions, "colours": lighting.colours}
        return {"kind": "lights", **lights}
    if isinstance(lighting, Environment):
        return {"kind": "environment", "file": str(lighting.file.resolve()), "exposure": lighting.exposure}
    return {"kind": "unlit"}


@lru_cache(maxsize=4)
def _command(path: str) -> Sequence[str]:
    """The command line in front of the job file.

    Raises:
        MissingExtraError: if the executable is neither Blender nor a Python with ``bpy``.
    """
    script = str(Path(blender_script.__file__).resolve())
    hint = (
        "name a `blender` executable, or a Python with the package `bpy` (python3.11 -m venv bpy; "
        'bpy/bin/pip install "bpy==4.5.*" "numpy<2"), by --blender'
    )
    try:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=120).stdout
        if version.startswith("Blender"):
            return (path, "--background", "--factory-startup", "--python-exit-code", "1", "--python", script, "--")
        asked = subprocess.run([path, "-c", "import bpy"], capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingExtraError(f"'{path}' cannot be run ({type(error).__name__}); {hint}.") from error
    if asked.returncode != 0:
        raise MissingExtraError(f"'{path}' is neither Blender nor a Python that has it; {hint}.")
    return (path, script)
