"""Shared by all tests: tiny seeded models and pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads only wait for each other, worst on busy machines

import pytest
import torch

from tests.browser import Page


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """The developers' shared folder, which users do not have."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "DESIGN.md").is_file():
        pytest.skip("needs ../shared")
    return folder


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """An empty page in a real browser."""
    if shutil.which("chromium") is None:
        pytest.skip("needs Chromium (Debian's package `chromium`)")
    page = Page(tmp_path / "profile")
    yield page
    page.close()


def random_picture(count: int = 1, size: int = 32) -> torch.Tensor:
    """Premultiplied RGBA noise in a disc, ``[count, 4, size, size]``."""
    grid = torch.linspace(-1, 1, size)
    disc = ((grid[:, None] ** 2 + grid**2) < 0.6).float()
    picture = torch.cat([torch.rand(count, 3, size, size), torch.ones(count, 1, size, size)], 1)
    return picture * disc


@pytest.fixture
def picture() -> torch.Tensor:
    return random_picture()
