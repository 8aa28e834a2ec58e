"""What runs in a process of its own: structure from motion of a job that `vfusion3d.metrics.sfm` wrote.

    python colmap_script.py FOLDER

Imports nothing but pycolmap, numpy and the standard library. FOLDER has ``images/000.png``, ..., perhaps
``masks/000.png.png``, ... and ``job.json``; ``result.json`` is written beside them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pycolmap

LIMIT = 2.0  # pixels that a point may be off


def main(folder: Path) -> None:
    """Features, matches of all pairs, cameras; the largest model's poses are the result."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    pycolmap.logging.minloglevel = 3
    pycolmap.set_random_seed(job["seed"])
    database = folder / "database.db"
    _find_features(folder, database, job["cameras"])
    _match(database, job["seed"])
    models = pycolmap.incremental_mapping(database, folder / "images", folder, options=_relaxed(job["seed"]))
    best = max(models.values(), key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)
    poses: dict[str, Any] = {}
    for image in best.images.values() if best is not None else ():
        if image.has_pose:
            poses[image.name] = image.cam_from_world().matrix().tolist()
    document = {"poses": poses, "points": best.num_points3D() if best is not None else 0}
    (folder / "result.json").write_text(json.dumps(document), encoding="utf-8")


def _find_features(folder: Path, database: Path, cameras: dict[str, list[float]]) -> None:
    """SIFT with affine shapes and pooled domain sizes; ``cameras`` has (fx, fy, cx, cy) in pixels by picture."""
    reading = pycolmap.ImageReaderOptions()
    reading.camera_model = "PINHOLE"
    if (folder / "masks").is_dir():
        reading.mask_path = folder / "masks"
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = 1  # and so the same each time
    options.use_gpu = False
    options.sift.estimate_affine_shape = True
    options.sift.domain_size_pooling = True
    pycolmap.extract_features(
        database,
        folder / "images",
        camera_mode=pycolmap.CameraMode.PER_IMAGE,
        reader_options=reading,
        extraction_options=options,
        device=pycolmap.Device.cpu,
    )
    with pycolmap.Database.open(database) as opened:
        for image in opened.read_all_images():
            camera = opened.read_camera(image.camera_id)
            camera.params = cameras[image.name]
            camera.has_prior_focal_length = True
            opened.update_camera(camera)


def _match(database: Path, seed: int) -> None:
    options = pycolmap.FeatureMatchingOptions()
    options.num_threads = 1
    options.use_gpu = False
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    verification.ransac.min_inlier_ratio = 0.1
    verification.ransac.max_error = LIMIT
    pycolmap.match_exhaustive(
        database, matching_options=options, verification_options=verification, device=pycolmap.Device.cpu
    )


def _relaxed(seed: int) -> Any:
    """Options for few pictures that are 22.5 degrees apart: known lenses, and fewer matches are enough.

    Most points are seen by two frames only, which the defaults ignore. Points of true renders are off by a fifth of a
    pixel; the default limits, twice these and more, also let objects pass that change shape from frame to frame.
    """
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.extract_colors = 1, seed, False
    options.min_model_size, options.min_num_matches = 3, 8
    options.ba_refine_focal_length = options.ba_refine_principal_point = options.ba_refine_extra_params = False
    mapper = options.mapper
    mapper.abs_pose_refine_focal_length = mapper.abs_pose_refine_extra_params = False
    mapper.init_min_num_inliers, mapper.init_min_tri_angle = 20, 8.0
    mapper.abs_pose_min_num_inliers, mapper.abs_pose_min_inlier_ratio = 8, 0.1
    mapper.filter_min_tri_angle = 1.0
    mapper.init_max_error = mapper.filter_max_reproj_error = LIMIT
    mapper.abs_pose_max_error = 2 * LIMIT
    triangulation = options.triangulation
    triangulation.ignore_two_view_tracks = False
    triangulation.merge_max_reproj_error = triangulation.complete_max_reproj_error = LIMIT
    return options


if __name__ == "__main__":
    main(Path(sys.argv[1]))
