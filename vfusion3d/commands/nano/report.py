"""The chain's page: what came of every stage, in one file."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from vfusion3d.commands.nano.chain import Chain, Link, Outcome
from vfusion3d.commands.nano.filtering import engine_plan
from vfusion3d.engine.page import Page
from vfusion3d.engine.report import add_run
from vfusion3d.outputs import write_atomically

REPORT = "report.html"
_WIDEST = 1200  # pixels of a picture


def write_page(chain: Chain) -> Path:
    """Write ``report.html``, a page without anything outside of it, of what is done so far."""
    page = Page("From procedural objects to a 3D reconstructor")
    outcomes = [(link, chain.outcome(link.name)) for link in chain.links]
    page.text(
        "Every stage of the paper at small size: a video model learns to turn objects and makes orbits of pictures; "
        "the good ones, labelled and cut out, pre-train a reconstructor, which renders of 3D objects fine-tune."
    )
    done = {link.name: outcome for link, outcome in outcomes if outcome is not None}
    if "benchmark" in done:
        _add_tables(page, done["benchmark"])
    rows = [[link.title, None if outcome is None else round(outcome.seconds)] for link, outcome in outcomes]
    rows.append(["all", sum(round(outcome.seconds) for outcome in done.values())])
    page.table(["stage", "seconds"], rows)
    for link, outcome in outcomes:
        if outcome is not None:
            _add_link(page, chain, link, outcome)
    path = chain.output / REPORT
    write_atomically(path, page.html().encode())
    return path


def _add_link(page: Page, chain: Chain, link: Link, outcome: Outcome) -> None:
    page.heading(link.title)
    page.text(link.says)
    if outcome.figures:
        page.table(["figure", "value"], [[name, _shown(value)] for name, value in outcome.figures.items()])
    _add_tables(page, outcome)
    for file, caption in outcome.pictures:
        picture: Image.Image = Image.open(chain.folder(link.name) / file)
        if picture.width > _WIDEST:
            picture = picture.resize((_WIDEST, round(picture.height * _WIDEST / picture.width)), Image.Resampling.BOX)
        elif factor := _WIDEST // (2 * picture.width):  # small ones are enlarged, pixel by pixel
            picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
        page.picture(picture, caption)
    if link.name == "filter":
        add_run(page, *engine_plan(chain), level=3)
    page.details("Settings", json.dumps(chain.settings[link.name], indent=2))


def _add_tables(page: Page, outcome: Outcome) -> None:
    for table in outcome.tables:
        page.heading(table["title"], 3)
        page.table(table["header"], table["rows"])


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
