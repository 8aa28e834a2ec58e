"""The executor ray on a cluster of two nodes on this machine. Ray is no dependency: without it most is skipped."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.engine.fakes import Double, Draw, Traced, chain, contents, items
from vfusion3d.engine import Plan, RuleCaptionFilter, Step, Store, run
from vfusion3d.errors import MissingExtraError, UsageError

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


def test_a_missing_ray_gets_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    table, plan = chain(1)
    with pytest.raises(MissingExtraError, match=r'needs the package .*; install it by: pip install "vfusion3d\[ray\]"'):
        run(plan, Store(tmp_path, table), quiet=True, executor="ray")
    with pytest.raises(UsageError, match="`executor` must be one of local, ray, but got 'slurm'"):
        run(plan, Store(tmp_path, table), quiet=True, executor="slurm")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two processor cores each, connected to."""
    pytest.importorskip("ray.data")
    import ray
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # workers import these tests
    patch.setenv("RAY_health_check_failure_threshold", "20")  # machines may be slow
    patch.setenv("RAY_worker_register_timeout_seconds", "600")
    patch.setenv("RAY_agent_register_timeout_ms", "600000")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()
    patch.undo()


@needs_ray
@pytest.mark.slow
def test_two_actors_make_what_one_process_makes(cluster, tmp_path):
    table, plan = chain(40)
    plan.steps[0].workers = 2
    run(plan, Store(tmp_path / "here", table, unit=4), quiet=True)
    totals = run(plan, Store(tmp_path / "ray", table, unit=4), quiet=True, executor="ray")
    assert (totals[0].done, totals[0].failed) == (39, 1)
    assert contents(plan, tmp_path / "ray") == contents(plan, tmp_path / "here")
    again = run(plan, Store(tmp_path / "ray", table, unit=4), quiet=True, executor="ray")
    assert not any(total.done or total.failed for total in again)


@needs_ray
@pytest.mark.slow
def test_a_killed_node_loses_nothing(cluster, tmp_path):
    import ray

    (tmp_path / "traces").mkdir()
    table = items(60)
    traced = Traced(str(tmp_path / "traces"), seconds=0.5)
    plan = Plan([Step(Draw()), Step(Double()), Step(traced, workers=2)], table.column_names)
    store = Store(tmp_path / "ray", table, unit=3)
    node = next(iter(cluster.worker_nodes))

    def kill():
        while len(list(store.step_folder(plan, 2).glob("0*.parquet"))) < 4:
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    run(plan, store, quiet=True, executor="ray")
    killer.join()
    assert sum(one["Alive"] for one in ray.nodes()) == 1
    traces = [path.name.split("-") for path in (tmp_path / "traces").iterdir()]
    assert len({name for name, _ in traces}) == 2 and len(traces) > 2  # an actor on each, and the lost one's heir
    for number in range(3):
        ids = contents(plan, store.folder)[number]["id"].to_pylist()
        assert ids == sorted(table["id"].to_pylist())


@needs_ray
@pytest.mark.slow
def test_what_ends_a_run_gets_one_sentence(cluster, tmp_path):
    class Broken(RuleCaptionFilter):
        def load(self):
            raise UsageError("The model is not there; name another.")

    table = items(4)
    plan = Plan([Step(Broken()), Step(Draw())], table.column_names)
    with pytest.raises(UsageError, match=r"^The model is not there; name another\.$"):
        run(plan, Store(tmp_path, table, unit=2), quiet=True, executor="ray")
