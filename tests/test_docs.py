"""What the documentation shows works: Python blocks run, commands and options exist, files are there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vfusion3d.recipes import list_recipes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [path for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))) if path.exists()]
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not beside the tests")


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, code) of every fenced block of a language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(path.name, code) for path in PAGES for code in fence.findall(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "code"), [block for block in blocks("python") if block[0] != "README.md"])
def test_python_blocks_run(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})


def commands() -> dict[str, set[str]]:
    """Subcommands in the pages' shell blocks (such as "render" and "data convert"), and the options shown with each."""
    found: dict[str, set[str]] = {}
    for _, code in blocks("(?:bash|sh|console)"):
        for line in re.split(r"\n|&&", code.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            if words[:1] == ["vfusion3d"]:
                name = " ".join(words[1:3] if words[1] == "data" else words[1:2])
                options = {word.split("=")[0] for word in words[2:] if word.startswith("--")}
                found.setdefault(name, set()).update(options)
    return found


OWN_COMMANDS = {command: options for command, options in commands().items() if command != "fit"}


@pytest.mark.parametrize(("command", "options"), sorted(OWN_COMMANDS.items()))
def test_commands_and_options_exist(command, options):
    run = subprocess.run(
        [sys.executable, "-m", "vfusion3d.cli", *command.split(), "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert not {option for option in options if option not in run.stdout}


def test_recipes_exist():
    shown = {name for path in PAGES for name in re.findall(r"--config (recipes/\S+\.yaml)", path.read_text("utf-8"))}
    assert shown and shown <= set(list_recipes())


def test_readme_commands_are_those_of_the_docs():
    text = (DOCS / "getting_started.md").read_text(encoding="utf-8")
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("pip install"):
            assert line in text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pictures_and_pages_exist(path):
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)|\{figure\} (\S+)", text)
    for target in (link or figure for link, figure in targets):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_rig_is_drawn_from_the_library(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(DOCS))
    import draw_rig

    monkeypatch.setattr(draw_rig, "__file__", str(tmp_path / "draw_rig.py"))
    draw_rig.main()
    assert "camera 0 looks along" in (tmp_path / "images" / "rig.svg").read_text(encoding="utf-8")
