"""Every shipped recipe: commented, parsed, dumped, planned, built on the meta device; its nano twin runs two steps."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest
import torch
import yaml

from tests.recipes.conftest import EVERY, options, stack
from vfusion3d.commands.plan import read_run
from vfusion3d.models import TriplaneReconstructor
from vfusion3d.recipes import ROOT, find_recipe, read_recipe
from vfusion3d.training.plan import plan_run
from vfusion3d.video.registry import backbone_class

COMMENTED = [name for name in EVERY if not re.search(r"nano/(reconstructor|checkpoint)", name)]


@pytest.mark.parametrize("name", EVERY)
def test_titles_and_bases(name):
    recipe = read_recipe(name)
    assert recipe.title.endswith((".", ":")) and len(recipe.title) <= 118
    assert recipe.base is None or find_recipe(recipe.base)
    if "/ablations/" in name:
        assert recipe.base.startswith("recipes/paper/") and recipe.text.splitlines()[2].startswith("# paper: ")
        assert re.match(r"(Table \d, row \d|Figure 7, point \d): ", recipe.title)


@pytest.mark.parametrize("name", COMMENTED)
def test_every_key_is_commented(name):
    lines = find_recipe(name).read_text().splitlines()
    values = [line for line in lines if re.match(r" *[\w+]+: +[^\s#]", line) and "class_path" not in line]
    assert values and not [line for line in values if "#" not in line]


def test_every_row_of_the_tables_is_there():
    rows = {re.match(r"(table\d|figure7)_(\d)", path.name).groups() for path in (ROOT / "ablations").glob("*.yaml")}
    counts = {table: sum(owner == table for owner, _ in rows) for table, _ in rows}
    assert counts == {"table3": 3, "table4": 5, "table5": 7, "table6": 3, "figure7": 5}
    small = {path.name.rsplit("_", 1)[0] for path in (ROOT / "ablations").glob("*_steps.yaml")}
    assert small == {path.name.rsplit("_", 1)[0] for path in (ROOT / "ablations").glob("*_epochs.yaml")}
    assert len(small) == 3 + 5 + 1 + 2


def is_video(name):
    """Whether a recipe, or the one below it, trains a video model."""
    recipe = read_recipe(name)
    return "/video_" in (recipe.base or name)


@cache
def built(config):
    with torch.device("meta"):
        return TriplaneReconstructor(config).parameter_count()


@pytest.mark.parametrize("name", EVERY)
def test_parsed_dumped_planned_and_built(name, plan_parser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parsed = plan_parser.parse_args(options(stack(name)))
    dumped = plan_parser.dump(parsed)
    (tmp_path / "dumped.yaml").write_text(dumped)
    assert plan_parser.dump(plan_parser.parse_args(["--config", str(tmp_path / "dumped.yaml")])) == dumped
    if re.search(r"nano/checkpoint", name):  # the shipped checkpoint's, whose scenes and weights have to be named
        parsed.data.init_args.modules[1].init_args.samples_per_epoch = 800
    recipe = read_run(plan_parser, parsed)
    plan = plan_run(recipe.run)
    assert plan.steps > 0 and plan.stages[-1].epochs[1] == recipe.run.max_epochs
    if is_video(name):  # built by what counts its cost; see test_video_cost.py for full size
        assert recipe.config.preset in backbone_class(recipe.config.backbone).presets
        assert plan.images_per_step == 16 * plan.total_batch
        if "/nano/" not in name:
            assert plan.total_batch == 240 and plan.steps == 20_800 and plan.stages[0].learning_rate == (1e-5, 1e-5)
        return
    assert built(recipe.config) == (452_135_700 if recipe.config.encoder == "dinov2" else built(recipe.config)) > 0
    if "/paper/" in name or "/ablations/" in name:
        assert plan.total_batch == 1024 and plan.images_per_step == 4096


PAPER = {  # samples -> steps and restart at batch 1024 over 30 epochs, as the paper's numbers give them
    "figure7_5_2_7m": (79_102, 26_367),
    "figure7_3_500k": (14_648, 4_883),
    "figure7_2_300k_epochs": (8_789, 2_930),
    "table6_1_only_3d_epochs": (4_395, 1_465),
    "figure7_1_100k_epochs": (2_930, 977),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_steps(name, plan_parser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no shards here: the limit counts
    recipe = read_run(plan_parser, plan_parser.parse_args(options(stack(f"recipes/ablations/{name}.yaml"))))
    plan = plan_run(recipe.run)
    assert (plan.nominal_steps, *plan.nominal_restarts) == PAPER[name]
    assert 0 <= plan.nominal_steps - plan.steps <= 30 and 0 <= plan.nominal_restarts[0] - plan.restarts[0] <= 10
    assert plan.warmup_steps == min(3000, round(0.05 * plan.steps))
    text = find_recipe(f"recipes/ablations/{name}.yaml").read_text()
    if "epochs" in name:
        assert f"{plan.nominal_restarts[0]:,}" in text and f"{plan.nominal_steps:,}" in text
        assert "cannot be counted" in recipe.notes[0] and "its `limit`" in recipe.notes[0]


def test_step_matched_rows_take_the_full_sets_steps(plan_parser):
    for name, steps in (("figure7_1_100k_steps", 79_080), ("table5_2_10k_steps", 970)):
        parsed = plan_parser.parse_args(options(stack(f"recipes/ablations/{name}.yaml")))
        assert plan_run(read_run(plan_parser, parsed).run).steps == steps


def tiny(name):
    """The nano twin of a reconstructor's recipe with the same overlay, as names; None if it is no such recipe."""
    recipe = read_recipe(name)
    base = recipe.base or name
    if "/paper/" not in base or is_video(name):
        return None
    return ["recipes/nano/" + base.rsplit("/", 1)[1], *([name] if recipe.base else [])]


def shrink(document, root):
    """Tiny sizes; whatever else an overlay says stays."""
    model, data = document["model"]["init_args"], document["data"]["init_args"]
    model |= {"architecture": "tiny", "changes": None, "weights": None}
    model["losses"]["trunk"] = "squeeze"
    model["patches"] |= {"size": 32, "coarse_samples": 4, "fine_samples": 2}
    data |= {"root": str(root), "samples_per_epoch": 2, "batch_size": 2, "resolution": 64, "val_fraction": 0.0}
    data |= {"limit": data["limit"] and 4, "order_by": data["order_by"] and "key"}
    schedule = document["resolution"]["init_args"]
    for key, value in (("resolutions", [32, 40, 48, 56, 64]), ("uniform", [32, 64])):
        if schedule[key]:
            schedule[key] = value[: len(schedule[key])]
    trainer = document["trainer"]
    cycles = document["learning_rate"]["init_args"]["cycles"]
    trainer |= {"max_steps": 2, "max_epochs": round(sum(cycles)), "accelerator": "cpu", "precision": "32-true"}
    trainer |= {"callbacks": None, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer |= {"default_root_dir": "runs", "enable_model_summary": False}
    document["total_batch"] = None
    return document


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    from vfusion3d import cli

    folder = tmp_path_factory.mktemp("shards") / "objects"
    command = ["data", "pack", "--procedural", "4", "--output", str(folder), "--resolution", "64"]
    assert cli.main(command) == 0
    return folder


def test_nano_twins_run_two_steps(plan_parser, shards, tmp_path, monkeypatch):
    """Rows that differ in the number of objects alone become the same tiny run, which runs once."""
    import lightning.pytorch

    monkeypatch.chdir(tmp_path)
    runs: dict[str, list[str]] = {}
    for name in EVERY:
        if names := tiny(name):
            document = yaml.safe_load(plan_parser.dump(plan_parser.parse_args(options(names)), skip_none=False))
            runs.setdefault(json.dumps(shrink(document, shards), sort_keys=True), []).append(name)
    others = [name for name in EVERY if re.search("paper|ablations", name) and not is_video(name)]
    assert sum(len(names) for names in runs.values()) == len(others)
    assert 8 <= len(runs) <= 16
    for text, names in runs.items():
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(json.loads(text)))
        parsed = plan_parser.parse_args(["--config", str(tmp_path / "tiny.yaml")])
        ready = plan_parser.instantiate_classes(parsed)
        schedules = [ready[key] for key in ("resolution", "learning_rate", "camera_noise") if ready[key] is not None]
        trainer = lightning.pytorch.Trainer(**{**ready.trainer.as_dict(), "callbacks": schedules})
        before = [p.detach().clone() for p in ready.model.parameters()]
        trainer.fit(ready.model, ready.data)
        assert trainer.global_step == 2, names
        after = list(ready.model.parameters())
        assert all(p.isfinite().all() for p in after), names
        assert any((a != b).any() for a, b in zip(before, after, strict=True)), names


@pytest.mark.parametrize("name", ["video_emu", "video_svd", "video_wan_lora"])
def test_nano_video_models_take_two_steps(name, plan_parser, tmp_path, monkeypatch):
    """As they are, but for sizes; the twin has the keys of the paper's recipe."""
    import lightning.pytorch

    monkeypatch.chdir(tmp_path)
    paper, nano = (
        yaml.safe_load(find_recipe(f"recipes/{folder}/{name}.yaml").read_text()) for folder in ("paper", "nano")
    )
    assert paper["model"]["init_args"].keys() == nano["model"]["init_args"].keys()
    small = ["--data.init_args.resolution", "16", "--data.init_args.samples_per_epoch", "4", "--total_batch", "2"]
    small += ["--data.init_args.batch_size", "2", "--data.init_args.val_samples", "1", "--trainer.max_epochs", "1"]
    small += ["--model.init_args.sampling.steps", "1", "--model.init_args.sampling.videos", "1"]
    small += ["--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
    parsed = plan_parser.parse_args([*options([f"recipes/nano/{name}.yaml"]), *small, "--learning_rate", "null"])
    ready = plan_parser.instantiate_classes(parsed)
    trainer = lightning.pytorch.Trainer(**ready.trainer.as_dict())
    trainer.fit(ready.model, ready.data)
    assert trainer.global_step == 2 and float(trainer.callback_metrics["val/psnr"]) > 0
    assert len(list(tmp_path.rglob("orbits_0000002.png"))) == 1
