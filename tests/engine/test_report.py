from __future__ import annotations

import io
import re
from typing import ClassVar

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from vfusion3d.engine import ItemError, Plan, Stage, Step, Store, run
from vfusion3d.engine.report import write_report


def picture(hue, turn=0):
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((6 + turn, 8, 24, 26), fill=(hue, 120, 255 - hue, 255))
    data = io.BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()


class Film(Stage):
    name, reads = "film", ("prompt", "number")
    writes: ClassVar = {"frames": pa.list_(pa.binary())}

    def process(self, rows):
        return [
            ItemError(f"The prompt '{row['prompt']}' has {row['number']} objects.")
            if row["number"] % 4 == 3
            else {"frames": [picture(row["number"] * 12, k) for k in range(16)]}
            for row in rows
        ]


class Score(Stage):
    name, reads = "score", ("frames", "number")
    writes: ClassVar = {"quality": pa.float64(), "elevation": pa.float64()}

    def process(self, rows):
        return [{"quality": row["number"] / 20, "elevation": 0.5} for row in rows]


class Keep(Stage):
    name, reads = "keep", ("quality",)
    writes: ClassVar = {"kind": pa.string()}

    def process(self, rows):
        return [{"kind": "sharp"} for _ in rows]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = [f"a <b>cup</b> {n}" for n in range(20)]
    table = pa.table(
        {
            "id": [f"i{n:02d}" for n in range(20)],
            "prompt": words,
            "number": list(range(20)),
            "category": ["cup", "car"] * 10,
            "licence": ["CC0-1.0"] * 20,
        }
    )
    plan = Plan([Step(Film()), Step(Score()), Step(Keep(), where="quality > 0.4")], table.column_names)
    store = Store(folder, table, unit=6)
    run(plan, store, quiet=True)
    return write_report(plan, store, folder / "report.html", "Cups & cars").read_text()


def cells(page, start):
    """Texts of the table row that begins with a cell."""
    row = next(row for row in page.split("<tr>") if re.match(rf"<td[^>]*>{re.escape(start)}<", row))
    return [re.sub("<.*", "", cell) for cell in re.findall(r"<td[^>]*>([^<]*)", row)]


def test_stages_failures_and_keep_rates(written):
    assert cells(written, "film")[:6] == ["film", "–", "15", "5", "0", "0"]
    assert cells(written, "keep")[:6] == ["keep", "quality &gt; 0.4", "8", "0", "12", "0"]
    reasons = written[written.index("<h2>Failures") : written.index("<h2>Keep")]
    assert reasons.count("<tr>") == 2 and "5" in reasons  # one kind, whatever the prompt
    assert cells(written, "all") == ["all", "53.3% of 15", "40.0% of 20"]
    # quality 0.45 to 0.95 in steps of a twentieth, every fourth failed: 9 10 12 13 14 16 17 18; odd ones are cars
    assert cells(written, "cup")[1:] == ["50.0% of 10", "50.0% of 10"]
    assert cells(written, "car")[1:] == ["60.0% of 5", "30.0% of 10"]


def test_orbits_and_distributions(written):
    pictures = written.count("<figure><img")
    assert pictures == 3 * 8
    best = written[written.index("Best by quality") : written.index("Worst by quality")]
    assert re.findall(r"<figcaption>(i\d\d)", best)[:3] == ["i18", "i17", "i16"]
    assert "elevation, degrees: 15 values, mean 28.65" in written and "28.6°" in best
    assert "quality: 15 values" in written and "5 without" in written


def test_it_needs_nothing_else_and_runs_nothing(written):
    assert not re.findall(r"(?:src|href)=\"(?!data:)", written) and "url(" not in written and "<script" not in written
    assert "<b>cup" not in written and "a &lt;b&gt;cup&lt;/b&gt; 4" in written and "Cups &amp; cars" in written
    assert cells(written, "licence") == ["licence", "CC0-1.0", "20"] and "prefers-color-scheme: dark" in written
    assert len(written) < 2**20
