"""Shared by the engine's tests: a tiny trained video model."""

from __future__ import annotations

from pathlib import Path

import pytest

FRAMES, SIDE = 4, 16
LINEAGE = ("No released weights went into it.", "Training data: CC0-1.0")


@pytest.fixture(scope="session")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ``vfusion3d export`` writes it: four frames of 16 pixels, clockwise."""
    import torch

    from tests.video.diffusers_folders import stirred
    from vfusion3d.cameras import Rig
    from vfusion3d.video import VideoModelConfig, create_backbone, save_video_model
    from vfusion3d.video.trainable import choose_trainable

    torch.manual_seed(1)
    backbone = create_backbone("emu", "tiny", frames=FRAMES)
    choose_trainable(backbone, "all")
    stirred(backbone.denoiser)
    rig = Rig(radius=3.0, fov=40.0, direction=-1, frames=FRAMES)
    config = VideoModelConfig(
        *("emu", "tiny", "all", rig, SIDE),
        options={"frames": FRAMES},
        name="orbits",
        licence="CC-BY-4.0",
        lineage=LINEAGE,
    )
    folder = tmp_path_factory.mktemp("video") / "model"
    save_video_model(backbone, folder, config)
    return folder
