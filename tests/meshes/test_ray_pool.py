from __future__ import annotations

import importlib.util
import os
import sys
import time
from typing import Any

import pytest

from tests.meshes.test_workers import work
from vfusion3d.errors import MeshError, MissingExtraError, UsageError
from vfusion3d.meshes.ray_pool import RayPool
from vfusion3d.meshes.workers import call_within


def test_a_missing_ray_gets_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtraError, match=r'needs the package `ray`; install it by: pip install "vfusion3d\[ray\]"'
    ):
        RayPool(work, 1, 30.0)
    with pytest.raises(UsageError, match="`workers`"):
        RayPool(work, 0, 30.0)
    with pytest.raises(UsageError, match="`timeout`"):
        RayPool(work, None, 0.0)


def test_calls_share_a_child_until_it_hangs_or_crashes() -> None:
    first, second = (call_within(work, ("value", k), 30.0) for k in range(2))
    assert first.value[1] == second.value[1] != os.getpid()
    assert "longer than 1 seconds" in str(call_within(work, ("hang", 0), 1.0).error)
    assert "crashed (exit code -6)" in str(call_within(work, ("crash", 0), 30.0).error)
    broken = call_within(work, ("mesh error", 0), 30.0)
    assert isinstance(broken.exception, MeshError)
    assert call_within(work, ("value", 3), 30.0).value[1] != first.value[1]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_failures_crashes_and_hangs_cost_only_their_item() -> None:
    items: list[tuple[str, Any]] = [
        ("value", 0),
        ("crash", 1),
        ("mesh error", 2),
        ("hang", 3),
        ("bug", 4),
        ("value", 5),
    ]
    started = time.monotonic()
    outcomes = {o.item[0]: o for o in RayPool(work, 2, timeout=3.0).map_unordered(items)}
    assert sorted(outcomes) == ["bug", "crash", "hang", "mesh error", "value"]
    assert time.monotonic() - started < 250
    assert outcomes["value"].error is None
    assert isinstance(outcomes["mesh error"].exception, MeshError)
    assert "KeyError" in str(outcomes["bug"].error)
    assert "crashed (exit code -6)" in str(outcomes["crash"].error)
    assert "longer than 3 seconds" in str(outcomes["hang"].error)
