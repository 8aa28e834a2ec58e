from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vfusion3d.alpha import straight_pixels
from vfusion3d.cameras import random_sphere
from vfusion3d.data.packing import procedural_items, procedural_rig, scene_items
from vfusion3d.data.procedural import sample_objects
from vfusion3d.data.raycast import render
from vfusion3d.data.scenes import write_scene
from vfusion3d.data.shard_writer import ShardWriter


@pytest.fixture(scope="session")
def scene_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes of six 24-pixel views of procedural objects."""
    root = tmp_path_factory.mktemp("scenes")
    for k in range(5):
        cameras = random_sphere(6, generator=torch.Generator().manual_seed(k))
        images = render(sample_objects(torch.tensor([k])), cameras.unsqueeze(0), 24, 24)[0]
        write_scene(root / f"object_{k}", straight_pixels(images), cameras)
    return root


@pytest.fixture(scope="session")
def orbit_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of six orbits of eight 24-pixel frames without cameras, in several shards."""
    folder = tmp_path_factory.mktemp("orbits")
    rig = procedural_rig(8)
    ShardWriter(folder, rig, shard_mib=0.03).write(procedural_items(6, 24, rig, False, 0, ()))
    assert len(list(folder.glob("*.tar"))) > 1
    return folder


@pytest.fixture(scope="session")
def render_set(scene_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes of ``scene_root`` as a shard set, with their cameras."""
    folder = tmp_path_factory.mktemp("renders")
    ShardWriter(folder).write(scene_items(sorted(scene_root.iterdir()), None, (), lambda *_: None))
    return folder


@pytest.fixture
def fit() -> Callable[..., list[dict[str, Tensor]]]:
    """Run a trainer for some epochs and return the training batches that a model was given."""
    import lightning.pytorch as pl

    class Recorder(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.batches: list[dict[str, Tensor]] = []
            self.validation: list[dict[str, Tensor]] = []

        def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
            self.batches.append({key: value.clone() for key, value in batch.items()})
            return self.weight * batch["images"].mean()

        def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
            self.validation.append(batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def run(datamodule: Any, epochs: int = 1, checkpoint: Path | None = None, **options: Any) -> Any:
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **{"enable_checkpointing": False, **options},
        )
        model = Recorder()
        trainer.fit(model, datamodule=datamodule, ckpt_path=checkpoint)
        return model

    return run


@pytest.fixture
def same() -> Callable[..., None]:
    """Assert that two lists of batches are equal to the last bit."""

    def check(first: list[dict[str, Tensor]], second: list[dict[str, Tensor]]) -> None:
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert one.keys() == other.keys()
            for key in one:
                assert torch.equal(one[key], other[key]), key

    return check
