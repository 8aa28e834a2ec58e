from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image

from vfusion3d.callbacks import NovelViewSheets, Turntables
from vfusion3d.callbacks.novel_views import object_rows
from vfusion3d.callbacks.pictures import save_film, save_picture
from vfusion3d.data import ProceduralDataModule
from vfusion3d.models import Rendering
from vfusion3d.training import LossWeights, PatchSettings, ReconstructorTraining


def test_rows_are_target_prediction_opacity_and_depth():
    images = torch.rand(2, 3, 4, 16, 16)
    opacity = torch.zeros(2, 3, 1, 16, 16)
    opacity[..., :8] = 1  # the left half is solid
    depth = torch.full_like(opacity, 3.0)
    depth[..., :4] = 2.0
    rows = object_rows(images, Rendering(torch.full((2, 3, 3, 16, 16), 0.25), opacity, depth * opacity), 1)
    assert rows.shape == (4 * 16, 3 * 16, 3)
    target, prediction, solid, distance = rows.reshape(4, 16, 3, 16, 3).swapaxes(1, 2)
    white = (images[1, 1, :3] + 1 - images[1, 1, 3:]).clamp(0, 1).permute(1, 2, 0)
    np.testing.assert_array_equal(target[1], (white * 255).round().byte().numpy())
    assert (prediction == 64).all() and (solid[:, :, :8] == 255).all() and (solid[:, :, 8:] == 0).all()
    assert (distance[:, :, :4] == 255).all() and (distance[:, :, 4:8] == 51).all()  # near bright, far dark
    assert (distance[:, :, 8:] == 0).all()
    assert (target[0][0] == (230, 120, 0)).all() and not (target[1][0] == (230, 120, 0)).all(-1).any()  # the input


def test_pictures_of_a_run_reach_files_and_loggers(tmp_path):
    module = ReconstructorTraining(
        "tiny", losses=LossWeights(perceptual=0.0, l2=1.0), patches=PatchSettings(size=8, recompute=False)
    )
    board = TensorBoardLogger(tmp_path, "run", 0)
    table = CSVLogger(tmp_path, "run", "csv")
    run = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        num_sanity_val_steps=1,  # must leave no trace
        logger=[board, table],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[NovelViewSheets(objects=2), Turntables(objects=1, frames=3)],
    )
    run.fit(module, ProceduralDataModule(samples_per_epoch=2, batch_size=2, views=3, resolution=24, val_samples=3))
    folder = tmp_path / "run" / "version_0"
    assert sorted(path.name for path in folder.glob("*.[pm]*")) == ["novel_views_0000001.png", "turntables_0000001.mp4"]
    assert Image.open(folder / "novel_views_0000001.png").size == (3 * 24, 2 * 4 * 24 + 2)

    import imageio

    frames = imageio.mimread(folder / "turntables_0000001.mp4")
    assert len(frames) == 3 and frames[0].shape == (24, 48, 3)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["images"]) == {"val/novel_views", "val/turntables"}
    assert events.Images("val/novel_views")[0].step == 1 and events.Images("val/novel_views")[0].width == 3 * 24
    with open(tmp_path / "run" / "csv" / "metrics.csv") as file:
        [row] = [row for row in csv.DictReader(file) if row["val/psnr"]]
    assert all(np.isfinite(float(row[f"val/{name}"])) for name in ("psnr", "foreground_psnr", "ssim", "iou"))


def test_loggers_with_ways_of_their_own(tmp_path):
    """What Weights & Biases offers is used as it is; a logger without pictures gets none."""
    shown = []
    wandb = SimpleNamespace(
        log_image=lambda key, images, step: shown.append((key, images[0].size, step)),
        log_video=lambda key, videos, step: shown.append((key, videos[0], step)),
    )
    trainer = SimpleNamespace(loggers=[wandb, SimpleNamespace(experiment=object())], global_step=7)
    save_picture(trainer, tmp_path / "new", "sheet", Image.new("RGB", (4, 6)), "val/sheet")
    save_film(trainer, tmp_path, "film", np.zeros((2, 16, 16, 3), np.uint8), "val/film")
    assert shown == [("val/sheet", (4, 6), 7), ("val/film", str(tmp_path / "film.mp4"), 7)]
    assert (tmp_path / "new" / "sheet.png").is_file() and (tmp_path / "film.mp4").stat().st_size > 0
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("callback", "arguments"),
    [(NovelViewSheets, {"objects": 0}), (Turntables, {"objects": 0}), (Turntables, {"frames": 0})],
)
def test_bad_arguments(callback, arguments):
    with pytest.raises(ValueError, match=r"Argument `(objects|frames)` must be at least 1"):
        callback(**arguments)
