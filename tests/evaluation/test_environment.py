"""Versions and hardware are told by the names that people know them by."""

from importlib.metadata import version

from vfusion3d.evaluation.environment import environment, hardware_name


def test_versions_and_hardware() -> None:
    found = environment("cpu", "pyyaml", "no-such-package")
    assert found["torch"] == version("torch") and found["pyyaml"] == version("pyyaml")
    assert "no-such-package" not in found and found["processor"] == hardware_name("cpu")
    # What a method calls its device is no reason to lose its figures.
    devices = [environment(device)["device"] for device in (None, "cpu", "the cluster's")]
    assert devices == ["unknown", "cpu", "the cluster's"]


def test_a_processor_has_its_makers_name() -> None:
    name = hardware_name("cpu")
    assert name.endswith("threads") and not name.startswith(("x86_64,", "aarch64,", ","))
    assert hardware_name("meta") == "meta"
