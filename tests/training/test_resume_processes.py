"""Real processes that are killed or told to end, and go on, also in another number."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.training import resumed
from tests.training.test_resume import check

pytestmark = pytest.mark.slow
PATIENCE = 600  # seconds; machines may be slow


def train(folder, **options):
    """`resumed.fit` in a process of its own, which starts the others."""
    command = [sys.executable, resumed.__file__, str(folder), json.dumps(options)]
    path = os.pathsep.join([str(Path(resumed.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """One process, three epochs of two steps, never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    resumed.fit(folder, ema=True)
    return folder


@pytest.mark.parametrize(
    ("step", "first", "second"),
    [
        (2, {"devices": 2, "batch_size": 2}, {"batch_size": 2, "accumulate": 2}),
        (4, {"workers": 1}, {"devices": 2, "batch_size": 1, "accumulate": 2, "workers": 1}),
    ],
    ids=["two processes, then one", "one process, then two"],
)
def test_killed_within_a_step(straight, tmp_path, step, first, second):
    """At the last batch of an epoch, with one checkpoint per step before: nothing of it shows."""
    done = train(tmp_path / "a", ema=True, kill=step, **first)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    done = train(tmp_path / "b", ema=True, resume=str(tmp_path / "a" / f"step{step - 1}.ckpt"), **second)
    assert done.returncode == 0, done.stderr[-2000:]
    check(straight, tmp_path / "a", tmp_path / "b")


def recipe(folder, **changes):
    """A recipe that would go on for hours, and writes a checkpoint every few steps."""
    saving = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"every_n_train_steps": 2}}
    trainer = {"accelerator": "cpu", "devices": 1, "max_epochs": 100_000, "logger": False, "enable_progress_bar": False}
    trainer |= {"callbacks": [saving], "default_root_dir": str(folder)}
    data = {"samples_per_epoch": 40, "batch_size": 2, "resolution": 16, "views": 1, "num_workers": 1}
    document = {
        "trainer": {**trainer, **changes},
        "model": {
            "class_path": "vfusion3d.ReconstructorTraining",
            "init_args": {"architecture": "tiny", "losses": {"perceptual": 0.0}, "patches": {"size": 8}},
        },
        "data": {"class_path": "vfusion3d.ProceduralDataModule", "init_args": data},
        "learning_rate": {"learning_rate": 1e-3, "cycles": [100_000]},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(document))
    return ["fit", "--config", str(folder / "recipe.yaml")]


def start(tmp_path, command, environment=None):
    """A training of the command line in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vfusion3d.cli", *command],
        cwd=tmp_path,
        env={**os.environ, **(environment or {})},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait(process, condition):
    """Until the condition holds or the process has ended, which it should not have."""
    started = time.monotonic()
    while not condition():
        assert process.poll() is None and time.monotonic() - started < PATIENCE, process.communicate(timeout=60)[1][
            -2000:
        ]
        time.sleep(0.2)


@pytest.mark.parametrize(("devices", "whole_group"), [(2, False), (1, True)], ids=["first of two", "group with worker"])
def test_sigterm_saves_and_ends(tmp_path, devices, whole_group):
    """Sent to the first of two processes alone, or to a process and its loader's worker alike."""
    command = recipe(tmp_path, devices=devices, **({"strategy": "ddp"} if devices > 1 else {}))
    process = start(tmp_path, command)
    try:
        wait(process, lambda: list(tmp_path.rglob("epoch=*.ckpt")))
        os.killpg(process.pid, signal.SIGTERM) if whole_group else process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
    assert process.returncode == 143, said[-2000:]
    [step] = re.findall(r"fit: Training was told to end \(SIGTERM\) and did, after step (\d+); continue with", said)
    [kept] = tmp_path.rglob("last.ckpt")
    assert f"--ckpt_path {kept.relative_to(tmp_path)}." in said
    state = torch.load(kept, weights_only=True)
    assert state["global_step"] == int(step) and state["samples_seen"] == 2 * devices * int(step)
    assert "Traceback" not in said


def test_slurm_queues_the_job_again_and_it_goes_on(tmp_path):
    """SIGUSR1 before the time is over: a checkpoint of whole steps, `scontrol requeue`; the next run starts there."""
    asked = tmp_path / "asked"
    asked.touch()
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $* >> {asked}\n")
    scontrol.chmod(0o755)
    job = {
        "JOB_ID": "77",
        "JOB_NAME": "vfusion3d",
        "NTASKS": "1",
        "NTASKS_PER_NODE": "1",
        "PROCID": "0",
        "LOCALID": "0",
    }
    slurm = {f"SLURM_{key}": value for key, value in {**job, "NODEID": "0", "JOB_NODELIST": "localhost"}.items()}
    slurm["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = recipe(tmp_path)
    steps = []
    for restarts in range(2):
        process = start(tmp_path, command, {**slurm, **({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {})})
        try:
            before = set(tmp_path.rglob("epoch=*.ckpt"))
            wait(process, lambda before=before: set(tmp_path.rglob("epoch=*.ckpt")) - before)
            process.send_signal(signal.SIGUSR1)
            kept = tmp_path / f"hpc_ckpt_{restarts + 1}.ckpt"
            wait(process, lambda times=restarts + 1: asked.read_text() == "requeue 77\n" * times)
            os.killpg(process.pid, signal.SIGKILL)  # as SLURM does when the time is over
            said = process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()
        state = torch.load(kept, weights_only=True)
        assert state["samples_seen"] == 2 * state["global_step"] > 0
        steps.append(state["global_step"])
    assert steps[0] < steps[1] and "Restoring states from the checkpoint path at" in said and "hpc_ckpt_1.ckpt" in said
