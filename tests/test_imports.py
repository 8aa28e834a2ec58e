"""What importing costs, and which way imports run."""

import ast
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vfusion3d

PACKAGE = Path(vfusion3d.__file__).parent
HEAVY = {
    "diffusers",
    "fsspec",
    "imageio",
    "lightning",
    "lpips",
    "matplotlib",
    "pyarrow",
    "pytorch_lightning",
    "pyvista",
    "scipy",
    "skimage",
    "torch",
    "torchmetrics",
    "torchvision",
    "transformers",
    "trimesh",
    "vtk",
    "vtkmodules",
}

# What each part of the library may import of it; DESIGN.md, "Layout". Everything but the two ends is named.
MAY_IMPORT = {
    "errors": set(),
    "alpha": set(),
    "outputs": {"errors"},
    "hub": {"errors"},
    "ray_session": {"errors"},
    "licences": set(),
    "poly_data": set(),
    "local_server": {"errors"},
    "cameras": {"errors"},
    "rendering": {"errors", "outputs", "alpha", "poly_data", "cameras"},
    "data": {"errors", "outputs", "alpha", "cameras", "licences"},
    "meshes": {"errors", "outputs", "poly_data", "cameras", "data", "ray_session"},  # into a scene folder
    "metrics": {"errors", "hub", "cameras", "video"},  # of video how released weights are loaded
    "preprocessing": {"errors", "outputs", "hub", "alpha", "cameras"},
    "models": {"errors", "outputs", "hub", "alpha", "cameras", "rendering"},
    "video": {"errors", "outputs", "hub", "alpha", "cameras", "preprocessing"},
    "engine": {
        "errors",
        "outputs",
        "hub",
        "ray_session",
        "local_server",
        "alpha",
        "cameras",
        "data",
        "preprocessing",
        "video",
        "metrics",
    },
    "training": {"errors", "outputs", "alpha", "cameras", "rendering", "models", "data", "metrics", "video"},
    "callbacks": {
        "errors",
        "outputs",
        "alpha",
        "cameras",
        "rendering",
        "models",
        "data",
        "metrics",
        "training",
        "video",
    },
    "evaluation": {
        "errors",
        "outputs",
        "alpha",
        "cameras",
        "rendering",
        "models",
        "data",
        "meshes",
        "metrics",
        "training",  # how a picture is recentred
        "pipelines",
    },
    "study": {"errors", "outputs", "local_server", "rendering", "data", "metrics", "engine"},
    "pipelines": {"errors", "outputs", "alpha", "cameras", "rendering", "models", "meshes", "preprocessing", "video"},
}


# -- cost --------------------------------------------------------------------------------------------------------
def loaded_by(code: str) -> tuple[set[str], float]:
    """Top-level modules that a fresh interpreter has after running ``code``, and the seconds that took."""
    program = (
        "import json, sys, time\nstart = time.perf_counter()\n"
        f"{code}\nseconds = time.perf_counter() - start\n"
        "print('\\n' + json.dumps([sorted({name.split('.')[0] for name in sys.modules}), seconds]))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules, seconds = json.loads(run.stdout.splitlines()[-1])
    return set(modules), seconds


def test_import_is_light():
    modules, seconds = loaded_by("import vfusion3d")
    assert "vfusion3d" in modules and not modules & HEAVY
    assert seconds < 1


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["reconstruct", "--help"],
        ["render", "--help"],
        ["data", "--help"],
        ["data", "doctor", "--help"],
        ["recipes", "--help"],
        ["data", "pack", "--help"],
        ["export", "--help"],
        ["orbit", "--help"],
        ["licenses", "--help"],
        ["nano", "--help"],
        ["generate", "--help"],
        ["label", "--help"],
        ["study", "--help"],
        ["train-quality", "--help"],
        ["train-elevation", "--help"],
    ],
)
def test_help_is_light(command):
    modules, _ = loaded_by(
        f"sys.argv = ['vfusion3d', *{command}]\n"
        "from vfusion3d.cli import main\n"
        "try:\n    status = main()\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        "assert not status, status"
    )
    assert "vfusion3d" in modules and not modules & HEAVY


def test_public_names_exist():
    for name in vfusion3d.__all__:
        assert getattr(vfusion3d, name) is not None
    assert set(dir(vfusion3d)) == set(vfusion3d.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Camera'"):
        vfusion3d.Camera  # noqa: B018


# -- direction ---------------------------------------------------------------------------------------------------
def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of ours that are imported anywhere in a file, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "vfusion3d")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            if node.module == "vfusion3d":
                yield from (vfusion3d._PUBLIC.get(alias.name, f"vfusion3d.{alias.name}") for alias in node.names)
            elif node.module and node.module.startswith("vfusion3d."):
                yield node.module


@cache
def graph() -> dict[str, dict[str, list[str]]]:
    """For each part of the library, the parts it imports and the files that do it."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(PACKAGE.rglob("*.py")):
        relative = file.relative_to(PACKAGE)
        part = relative.parts[0].removesuffix(".py")
        found[part]  # a part that imports nothing is there too
        for module in imported(ast.parse(file.read_text(encoding="utf-8"))):
            if part_of(module) != part:
                found[part][part_of(module)].append(str(relative))
    return found


def test_the_walk_sees_the_imports():
    assert "cameras" in graph()["models"] and "rendering" in graph()["models"] and "errors" in graph()["cameras"]


def test_imports_run_one_way():
    allowed = {name: may | {"__version__"} for name, may in MAY_IMPORT.items()}
    wrong = {
        f"{part} imports {other}": files
        for part, others in graph().items()
        for other, files in others.items()
        if part in allowed and other not in allowed[part]
    }
    assert not wrong


def test_every_part_has_a_rule():
    assert set(graph()) - set(MAY_IMPORT) <= {"__init__", "commands", "cli", "recipes"}


def test_nothing_imports_the_command_line():
    assert not [part for part, others in graph().items() if "cli" in others]
    assert not [part for part, others in graph().items() if "commands" in others and part != "cli"]


def test_only_what_meets_pictures_of_users_imports_preprocessing():
    users = {part for part, others in graph().items() if "preprocessing" in others}
    assert users <= {"pipelines", "video", "engine", "commands"}


def test_the_rules_have_no_cycle():
    seen: list[str] = []
    left = dict(MAY_IMPORT)
    while left:
        free = [part for part, may in left.items() if may <= set(seen)]
        assert free, f"a cycle among {sorted(left)}"
        seen += free
        left = {part: may for part, may in left.items() if part not in free}
