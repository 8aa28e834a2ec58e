"""Fine-tuning of tiny video models: what is trained, resuming, averages, latents on the disk, and two processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from vfusion3d.callbacks import LearningRateRestart, OrbitSheets, SkipNonFinite
from vfusion3d.data import ProceduralOrbitDataModule
from vfusion3d.errors import UsageError
from vfusion3d.training import LatentCache, OptimizerSettings, SamplingSettings, VideoFineTuner
from vfusion3d.video import backbone_names

SIZE, FRAMES = 8, 4


def module(backbone: str = "emu", train: str = "temporal", **options: Any) -> VideoFineTuner:
    torch.manual_seed(0)
    options = {"sampling": SamplingSettings(videos=1, steps=2), "rank": 2, "changes": {"frames": FRAMES}, **options}
    optimizer = OptimizerSettings(learning_rate=1e-2)
    return VideoFineTuner(backbone, "tiny", train=train, optimizer=optimizer, **options)  # type: ignore[arg-type]


def data(**options: Any) -> ProceduralOrbitDataModule:
    options = {"samples_per_epoch": 4, "batch_size": 2, "views": FRAMES, "resolution": SIZE, **options}
    return ProceduralOrbitDataModule(**options)


def fit(
    model: VideoFineTuner, orbits: ProceduralOrbitDataModule, epochs: int = 1, resume: Any = None, **options: Any
) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", **{**quiet, "enable_checkpointing": False, **options})
    trainer.fit(model, orbits, ckpt_path=resume, weights_only=True)
    return trainer


def weights(model: VideoFineTuner) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


class WithoutGradient(Callback):
    """Names of weights that are trained and got no gradient."""

    names: list[str] | None = None

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        self.names = [
            name for name, weight in pl_module.named_parameters() if weight.requires_grad and weight.grad is None
        ]


@pytest.mark.parametrize("name", backbone_names())
def test_every_tiny_backbone_trains_a_step_and_its_checkpoint_holds_that_alone(name: str, tmp_path: Path) -> None:
    model = module(name, "lora" if name == "wan" else "temporal", image_noise=(-3.0, 0.5))
    before = weights(model)
    watch = WithoutGradient()
    trainer = fit(model, data(samples_per_epoch=2), callbacks=[watch])
    after = weights(model)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and changed <= model.trained < before.keys()  # what is frozen is the same to the last bit
    assert watch.names == []  # DDP would wait for them
    trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == model.trained
    assert saved["vfusion3d_video"]["rig"] == {"radius": 3.07, "fov": 40.0, "direction": 1, "frames": FRAMES}
    assert saved["vfusion3d_video"]["backbone"] == name and saved["samples_seen"] == 2
    loaded = VideoFineTuner.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert loaded.rig == saved["vfusion3d_video"]["rig"] and loaded.resolution == SIZE
    assert all(torch.equal(loaded.get_parameter(key), after[key]) for key in model.trained)
    with pytest.raises(RuntimeError, match="Missing key"):
        loaded.load_state_dict({key: after[key] for key in sorted(model.trained)[1:]})


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """From the middle of the second epoch and from its end, with averaged weights, a schedule and validation."""

    def callbacks(folder: Path) -> list[Any]:
        every = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
        schedule = LearningRateRestart(1e-2, [1, 1], warmup_steps=1)
        return [EMAWeightAveraging(decay=0.5), schedule, SkipNonFinite(), OrbitSheets(str(folder)), every]

    options = {"enable_checkpointing": True, "gradient_clip_val": 1.0}
    whole = module(train="temporal")
    fit(whole, data(val_samples=1), 2, callbacks=callbacks(tmp_path / "a"), **options)
    assert {path.stem for path in (tmp_path / "a").glob("*.ckpt")} == {f"step={k}" for k in (1, 2, 3, 4)}
    assert len(list((tmp_path / "a").glob("orbits_*.png"))) == 2
    for step in (2, 3):
        resumed = module(train="temporal")
        checkpoint = tmp_path / "a" / f"step={step}.ckpt"
        trainer = fit(resumed, data(val_samples=1), 2, checkpoint, callbacks=callbacks(tmp_path / str(step)), **options)
        assert trainer.global_step == 4 and resumed.samples_seen == whole.samples_seen == 8
        for key in whole.trained:
            torch.testing.assert_close(resumed.get_parameter(key), whole.get_parameter(key), atol=1e-6, rtol=1e-5)
        assert float(trainer.callback_metrics["val/loss"]) > 0 and "val/still_psnr" in trainer.callback_metrics


def test_levels_noise_and_drops_belong_to_the_sample() -> None:
    """A batch of two is two batches of one; gradient checkpointing and repetition change nothing."""
    orbits = data(batch_size=2, samples_per_epoch=2)
    [batch] = [orbits.on_after_batch_transfer(loaded, 0) for loaded in orbits.train_dataloader()]
    model = module(train="all", drop_image=0.5, image_noise=(-3.0, 0.5))
    together = float(model.loss(batch).detach())
    alone = [float(model.loss({k: v[i : i + 1] for k, v in batch.items()}).detach()) for i in range(2)]  # type: ignore[arg-type, index]
    assert together == pytest.approx(sum(alone) / 2, rel=1e-4) and alone[0] != alone[1]
    video = model.eval().sample(batch)
    assert video.shape == batch["frames"].shape and float(video.min()) >= 0 and float(video.max()) <= 1
    torch.testing.assert_close(model.sample({k: v[1:] for k, v in batch.items()})[0], video[1], atol=1e-4, rtol=0)  # type: ignore[arg-type, index]


def test_latents_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = module()
    cache, videos = LatentCache(tmp_path / "latents"), torch.rand(2, FRAMES, 3, SIZE, SIZE)
    expected, encode, calls = model.backbone.encode(videos), model.backbone.encode, []
    monkeypatch.setattr(model.backbone, "encode", lambda video: calls.append(len(video)) or encode(video))
    first = cache.encode(model.backbone, videos)
    torch.testing.assert_close(first, expected, atol=1e-3, rtol=1e-3)
    again = LatentCache(tmp_path / "latents")  # of another process
    assert torch.equal(again.encode(model.backbone, videos.flip(0)), first.flip(0)) and calls == [2]
    [damaged, _] = sorted((tmp_path / "latents").rglob("*.safetensors"))
    damaged.write_bytes(b"half")
    assert torch.equal(again.encode(model.backbone, videos), first) and calls == [2, 1]
    other = torch.cat([videos[:1], 1 - videos[:1]])
    assert not torch.equal(again.encode(model.backbone, other)[1], first[0]) and calls == [2, 1, 1]


@pytest.mark.parametrize(
    ("options", "trainer", "sentence"),
    [
        ({}, {"precision": "bf16-true"}, "Precision bf16-true would round away .* use bf16-mixed"),
        ({"latent_cache": "x"}, {}, "`latent_cache` is for orbits that come again, but these are new in every epoch"),
    ],
)
def test_what_cannot_be_is_refused(options: Any, trainer: Any, sentence: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=sentence):
        fit(module(**options), data(), **trainer)
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_and_frames() -> None:
    with pytest.raises(UsageError, match=r"`drop_image` must be in \[0, 1\], but got 2"):
        module(drop_image=2)
    with pytest.raises(UsageError, match="`train` must be one of temporal, all, lora"):
        module(train="spatial")
    with pytest.raises(UsageError, match="makes 4 frames, but the videos have 3"):
        fit(module(), data(views=3))


def test_mixed_precision_with_frozen_halves() -> None:
    model = module("wan", "lora", changes={"frames": FRAMES, "half": True})
    assert {p.dtype for n, p in model.named_parameters() if n in model.trained} == {torch.float32}
    assert torch.bfloat16 in {p.dtype for n, p in model.named_parameters() if n not in model.trained}
    before = weights(model)
    with pytest.raises(UsageError, match=r"in bfloat16 .* need --trainer.precision bf16-mixed, but it is 32-true"):
        fit(model, data())
    fit(model, data(samples_per_epoch=2), precision="bf16-mixed", callbacks=[SkipNonFinite(limit=0)])
    assert any(not torch.equal(before[key], model.get_parameter(key)) for key in model.trained)


def test_going_on_from_a_trained_model(tmp_path: Path) -> None:
    from vfusion3d.training.export_video import load_trained_video
    from vfusion3d.video.trained import save_video_model

    model = module(train="all", ray_channels=True)
    trainer = fit(model, data(samples_per_epoch=2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    backbone, config = load_trained_video(str(tmp_path / "last.ckpt"))
    save_video_model(backbone, tmp_path / "model", config)
    again = module(train="all", weights=str(tmp_path / "model"), changes={})
    assert again.trained == model.trained
    assert all(torch.equal(again.get_parameter(key), model.get_parameter(key)) for key in model.trained)
    fit(again, data(samples_per_epoch=2)).save_checkpoint(tmp_path / "again.ckpt")
    about = torch.load(tmp_path / "again.ckpt", weights_only=True)["vfusion3d_video"]
    assert (about["source"], about["changes"]) == ("tiny", {"frames": FRAMES, "ray_channels": True})
    with pytest.raises(UsageError, match=r"`train` is 'temporal', but .*model was trained 'all': set it to that"):
        module(weights=str(tmp_path / "model"))


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    runs = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.ckpt"
        command = [sys.executable, __file__, str(processes), str(path)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        runs.append(torch.load(path, weights_only=True))
    assert runs[0]["state_dict"].keys() == runs[1]["state_dict"].keys()
    assert runs[0]["samples_seen"] == runs[1]["samples_seen"]
    # Gradients, averaged over the steps. Weights say less: Adam takes whole steps along a gradient that is nothing but
    # rounding, as that of a bias before a normalisation.
    moments = [run["optimizer_states"][0]["state"] for run in runs]
    assert moments[0].keys() == moments[1].keys()
    largest = max(float(state["exp_avg"].abs().max()) for state in moments[0].values())
    for key, state in moments[0].items():
        torch.testing.assert_close(moments[1][key]["exp_avg"], state["exp_avg"], atol=1e-4 * largest, rtol=1e-3)


def main(processes: int, path: str) -> None:
    strategy = "ddp" if processes > 1 else "auto"
    orbits = data(batch_size=2 // processes, val_samples=2)
    trainer = fit(module(), orbits, devices=processes, strategy=strategy, gradient_clip_val=1.0)
    trainer.save_checkpoint(path)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
