"""vfusion3d: from meshes and prompts to a trained image-to-3D model, and from one picture to a 3D asset.

Public names are imported on first use, so `import vfusion3d` stays light.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Cameras": "vfusion3d.cameras",
    "orbit": "vfusion3d.cameras",
    "look_at": "vfusion3d.cameras",
    "random_sphere": "vfusion3d.cameras",
    "rigid_noise": "vfusion3d.cameras",
    "TriplaneReconstructor": "vfusion3d.models",
    "ReconstructorConfig": "vfusion3d.models",
    "Triplanes": "vfusion3d.models",
    "ImageTo3DPipeline": "vfusion3d.pipelines",
    "ReconstructorTraining": "vfusion3d.training",
    "VideoFineTuner": "vfusion3d.training.video",
    "OrbitVideoDataModule": "vfusion3d.data",
    "ProceduralOrbitDataModule": "vfusion3d.data",
    "OrbitGenerator": "vfusion3d.video",
    "RenderedDataModule": "vfusion3d.data",
    "SyntheticDataModule": "vfusion3d.data",
    "ProceduralDataModule": "vfusion3d.data",
    "MixedDataModule": "vfusion3d.data",
    "ResolutionSchedule": "vfusion3d.callbacks",
    "LearningRateRestart": "vfusion3d.callbacks",
    "CameraNoise": "vfusion3d.callbacks",
}

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'vfusion3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
