"""True views of a protocol, rendered from meshes once and kept by hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vfusion3d.data.scenes import TRANSFORMS, Scene
from vfusion3d.errors import MeshError, MissingExtraError, OutputError
from vfusion3d.evaluation.protocol import Protocol
from vfusion3d.meshes.files import files_of
from vfusion3d.meshes.readers import UpAxis
from vfusion3d.meshes.views import RenderJob, render_scene_in_worker
from vfusion3d.meshes.workers import WorkerPool
from vfusion3d.outputs import make_folder

RENDERING = 1
"""Version of how meshes are drawn; part of the cache's keys."""
TIMEOUT = 300.0


def default_cache() -> Path:
    """Where true views are kept: ``$VFUSION3D_CACHE``, or the user's cache folder."""
    root = os.environ.get("VFUSION3D_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vfusion3d"
    )
    return Path(root) / "targets"


def render_targets(
    protocol: Protocol,
    meshes: Mapping[str, Path],
    cache: Path | None = None,
    up: UpAxis = "y",
    workers: int | None = None,
) -> dict[str, Scene]:
    """The true views of objects as scenes; rendered where the cache has them not.

    A scene's place follows from the cameras, the light, the drawing's version and the mesh file's content, so an edited
    mesh, texture or protocol never meets old pictures.

    Args:
        protocol: Cameras, light and size; its object lists choose among the meshes.
        meshes: Mesh files by object name.
        cache: Folder of the cache; `default_cache` by default.
        up: Up axis of the files.
        workers: Meshes at a time; one per processor core by default.

    Raises:
        UsageError: if the meshes are not the protocol's objects (`Protocol.choose`).
        MeshError: if a mesh cannot be rendered: true views are never left out silently.
        OutputError: if the cache cannot be written.
        MissingExtraError: if this machine cannot draw.
    """
    chosen = {name: meshes[name] for name in protocol.choose(meshes)}
    root = default_cache() if cache is None else cache
    jobs = {name: _job(protocol, name, path, root, up) for name, path in chosen.items()}
    missing = [job for job in jobs.values() if not (job.folder / TRANSFORMS).is_file()]
    if missing:
        make_folder(root)
        pool = WorkerPool(render_scene_in_worker, workers or os.cpu_count() or 1, TIMEOUT)
        failed = []
        with (
            tqdm(total=len(missing), desc="true views", unit="mesh", file=sys.stderr) as bar,
            closing(pool.map_unordered(missing)) as outcomes,
        ):
            for outcome in outcomes:
                if isinstance(outcome.exception, (OutputError, MissingExtraError)):
                    raise outcome.exception
                if outcome.error is not None:
                    failed.append(f"{outcome.item.mesh}: {outcome.error}")
                bar.update()
        if failed:
            more = f" ({len(failed)} meshes failed)" if len(failed) > 1 else ""
            raise MeshError(f"True views cannot be made of {failed[0].rstrip('.')}{more}; mend or remove it.")
    return {name: Scene.load(job.folder) for name, job in jobs.items()}


def mesh_digest(mesh: Path) -> str:
    """SHA-256 over a mesh file and those that it may refer to.

    Raises:
        MeshError: if one of them cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in files_of(mesh):
            digest.update(file.read_bytes())
    except OSError as error:
        raise MeshError(f"The mesh {mesh} cannot be read ({error.strerror or error}).") from error
    return digest.hexdigest()


def _job(protocol: Protocol, name: str, mesh: Path, root: Path, up: UpAxis) -> RenderJob:
    """What renders one object, and where."""
    settings = protocol.settings()
    facts: list[Any] = [RENDERING, *dataclasses.astuple(settings), protocol.lighting, up, mesh_digest(mesh)]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    # Cameras that are drawn depend on the folder's name, which is the object's.
    return RenderJob(mesh, root / key / name, settings, up, protocol.lighting)
