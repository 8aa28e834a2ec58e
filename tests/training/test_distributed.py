"""Several processes train what one does: DDP and FSDP2, each in real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vfusion3d import TriplaneReconstructor


def run(mode: str, processes: int, path: Path, resume: Path | None = None) -> dict[str, torch.Tensor]:
    """Weights after two epochs of the same global batches, trained by this file's `main`; the exported are the same."""
    command = [sys.executable, __file__, mode, str(processes), str(path), *([str(resume)] if resume else [])]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    exported = TriplaneReconstructor.from_pretrained(path.with_suffix("")).state_dict()
    assert all(torch.equal(exported[name.removeprefix("model.")], value) for name, value in weights.items())
    return weights


@pytest.mark.slow
def test_two_processes_equal_one_with_copies_and_with_shards_of_the_model(tmp_path):
    one = run("auto", 1, tmp_path / "one.ckpt")
    for mode in ("ddp", "fsdp"):
        two = run(mode, 2, tmp_path / f"{mode}.ckpt")
        assert two.keys() == one.keys()
        # Adam divides by a gradient's size, so rounding shows in the smallest ones.
        assert all(torch.allclose(two[name], one[name], atol=5e-6) for name in one), mode
    # A sharded run that was cut off within its second epoch goes on from its checkpoint.
    whole = run("fsdp", 2, tmp_path / "whole.ckpt", tmp_path / "fsdp.steps" / "step=3.ckpt")
    assert all(torch.allclose(whole[name], one[name], atol=5e-6) for name in one)


def main(mode: str, processes: int, path: str, resume: str | None = None) -> None:
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.strategies import ModelParallelStrategy

    from vfusion3d.callbacks import CameraNoise, ExportModel, LearningRateRestart, SkipNonFinite
    from vfusion3d.data import ProceduralDataModule
    from vfusion3d.training import LossWeights, PatchSettings, ReconstructorTraining

    torch.manual_seed(0)
    sharded = ModelParallelStrategy(processes, tensor_parallel_size=1, save_distributed_checkpoint=False)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=sharded if mode == "fsdp" else mode,
        max_epochs=2,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            LearningRateRestart(1e-3, [1, 1], warmup_steps=1),
            CameraNoise(),
            SkipNonFinite(),
            ExportModel(path.removesuffix(".ckpt")),
            ModelCheckpoint(path.replace(".ckpt", ".steps"), "{step}", every_n_train_steps=3, save_top_k=-1),
        ],
    )
    module = ReconstructorTraining(
        architecture="tiny",
        losses=LossWeights(perceptual=0.0, l2=1.0, opacity=0.1),
        patches=PatchSettings(size=8),
        gradient_checkpointing=mode == "fsdp",
    )
    data = ProceduralDataModule(samples_per_epoch=8, batch_size=4 // processes, resolution=16)
    trainer.fit(module, data, ckpt_path=resume)
    trainer.save_checkpoint(path)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
