"""What decides the outcome of each stage of ``vfusion3d nano``: at full length, and as short as it can be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfusion3d.errors import UsageError
from vfusion3d.recipes import find_recipe

VIDEO_RECIPE = "recipes/nano/video_svd.yaml"
PRETRAIN_RECIPE = "recipes/nano/pretrain_synthetic.yaml"
FINETUNE_RECIPE = "recipes/nano/finetune_3d.yaml"

_OBJECTS = ["animal", "chair", "vehicle"]  # the kinds that the video recipe learns

FULL: dict[str, dict[str, Any]] = {
    # Objects: of the 3D data, photographed for the video model to turn, and held out for the benchmark.
    "objects": {"rendered": 160, "pictured": 96, "held_out": 16, "resolution": 64, "kinds": _OBJECTS},
    "video": {"changes": {}},
    # Few steps: each costs so small a model some of what the picture says (docs/video.md).
    "orbits": {"steps": 5, "guidance": {"image": 1.0, "text": 0.0}},
    "labels": {"labelled": 48, "good": 0.6, "planted": 48, "checked": 24},  # the paper labelled 60 % as good
    "filter": {"keep": 0.675},  # the paper's share
    "shards": {},
    "pretrain": {
        "changes": {
            "trainer": {"max_epochs": 24, "check_val_every_n_epoch": 8},
            "model": {"init_args": {"patches": {"size": 16}}},
            "data": {"init_args": {"samples_per_epoch": 96, "resolution": 32, "val_fraction": 0.1}},
            "resolution": {"resolutions": [16, 20, 24, 28, 32], "epochs": [4, 4, 4, 4, 8]},
            "learning_rate": {"cycles": [8, 16]},
        }
    },
    "unfiltered": {},
    "finetune": {
        "changes": {
            "trainer": {"max_epochs": 8, "check_val_every_n_epoch": 4},
            "data": {"init_args": {"samples_per_epoch": 160, "resolution": 64}},
            "model": {"init_args": {"patches": {"size": 24}}},
            "resolution": {"resolutions": [64], "epochs": [8]},
            "learning_rate": {"cycles": [8]},
        }
    },
    "benchmark": {"views": 8},
}

_SHORT_LOSS = {  # the smallest network, and the smallest patches that it takes
    "losses": {"trunk": "squeeze"},
    "patches": {"size": 32, "coarse_samples": 4, "fine_samples": 2},
}
_TINY = {"architecture": "tiny", "changes": None}
SHORT: dict[str, dict[str, Any]] = {
    "objects": {"rendered": 8, "pictured": 8, "held_out": 2, "resolution": 32, "kinds": _OBJECTS},
    "video": {
        "changes": {
            "trainer": {"max_epochs": 1},
            "model": {"init_args": {"source": "tiny", "sampling": {"steps": 2, "videos": 1}}},
            "data": {"init_args": {"samples_per_epoch": 8, "resolution": 16, "val_samples": 1}},
            "learning_rate": {"cycles": [1]},
        }
    },
    "orbits": {"steps": 2, "guidance": {"image": 1.0, "text": 0.0}},
    "labels": {"labelled": 6, "good": 0.5, "planted": 4, "checked": 4},
    "filter": {"keep": 0.675},
    "shards": {},
    "pretrain": {
        "changes": {
            "trainer": {"max_epochs": 2},
            "model": {"init_args": {**_TINY, **_SHORT_LOSS}},
            "data": {"init_args": {"samples_per_epoch": 4, "batch_size": 4, "resolution": 36, "val_fraction": 0.2}},
            "resolution": {"resolutions": [32, 36], "epochs": [1, 1]},
            "learning_rate": {"cycles": [1, 1]},
        }
    },
    "unfiltered": {},
    "finetune": {
        "changes": {
            "trainer": {"max_epochs": 1},
            "model": {"init_args": _SHORT_LOSS},
            "data": {"init_args": {"samples_per_epoch": 4, "batch_size": 4, "resolution": 36}},
            "resolution": {"resolutions": [36], "epochs": [1]},
            "learning_rate": {"cycles": [1]},
        }
    },
    "benchmark": {"views": 3},
}


def chain_settings(short: bool, meshes: list[str] | None, video_model: str | None, seed: int) -> dict[str, Any]:
    """Settings of all stages.

    Args:
        short: The test's.
        meshes: Mesh files and folders of such in place of procedural objects.
        video_model: A trained one in place of training one.
        seed: Of the objects.

    Raises:
        UsageError: if a mesh is not there.
        CheckpointError: if there is no such video model.
    """
    settings: dict[str, dict[str, Any]] = {name: dict(values) for name, values in (SHORT if short else FULL).items()}
    settings["objects"]["seed"] = seed
    if meshes:
        missing = next((mesh for mesh in meshes if not Path(mesh).exists()), None)
        if missing is not None:
            raise UsageError(f"The mesh file or folder {missing} of --meshes does not exist; check the path.")
        settings["objects"]["meshes"] = sorted(str(Path(mesh).resolve()) for mesh in meshes)
    if video_model is not None:
        from vfusion3d.engine.stages.weights import weights_identity
        from vfusion3d.video.trained import find_video_model

        settings["video"] = {"model": str(weights_identity(find_video_model(video_model)))}
    settings["unfiltered"] = dict(settings["pretrain"])
    recipes = {
        **{"video": VIDEO_RECIPE, "finetune": FINETUNE_RECIPE},
        **dict.fromkeys(("pretrain", "unfiltered"), PRETRAIN_RECIPE),
    }
    for name, recipe in recipes.items():
        settings[name]["recipe"] = hashlib.sha256(recipe_text(recipe).encode()).hexdigest()[:16]
    return settings


def recipe_text(name: str) -> str:
    """A packaged recipe's text."""
    path = find_recipe(name)
    assert path is not None, name
    return path.read_text(encoding="utf-8")


def merged(base: Any, changes: Any) -> Any:
    """Nested mappings with some values replaced; another ``class_path`` replaces the arguments too."""
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    if "class_path" in changes and changes["class_path"] != base.get("class_path"):
        return dict(changes)
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}
