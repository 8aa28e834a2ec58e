from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from vfusion3d.errors import UsageError
from vfusion3d.video import EmuBackbone, backbone_names, create_backbone, registry


class Theirs(EmuBackbone):
    """A backbone that another package brings."""

    name = "theirs"


@pytest.fixture
def installed(monkeypatch):
    def install(value):
        point = EntryPoint(name="theirs", value=value, group=registry.ENTRY_POINTS)

        def found(group, name="theirs"):
            return [point] if (group, name) == (registry.ENTRY_POINTS, "theirs") else []

        monkeypatch.setattr(registry, "entry_points", found)

    return install


def test_an_entry_point_adds_a_backbone(installed):
    installed(f"{__name__}:Theirs")
    assert backbone_names() == ["emu", "i2vgen", "svd", "theirs", "wan"]
    backbone = create_backbone("theirs", "tiny", frames=2)
    assert type(backbone).__name__ == "Theirs" and backbone.frames == 2


def test_what_is_no_backbone(installed):
    installed("json:dumps")
    with pytest.raises(UsageError, match=r"'theirs' of vfusion3d.video_backbones is no VideoBackbone"):
        create_backbone("theirs", "tiny")
    with pytest.raises(UsageError, match=r"must be one of emu, i2vgen, svd, theirs, wan, but got 'sora'"):
        create_backbone("sora", "tiny")
