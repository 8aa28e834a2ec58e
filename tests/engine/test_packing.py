from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from vfusion3d.data import ShardSet
from vfusion3d.engine import (
    CentrePicture,
    FrameMasks,
    ImageToOrbit,
    Plan,
    ReadImage,
    Stage,
    Step,
    Store,
    pack,
    run,
)


class Label(Stage):
    """Elevation and quality of one frame's brightness: a scripted label."""

    name, reads = "label", ("frames",)
    writes: ClassVar = {"elevation": pa.float32(), "quality": pa.float32()}

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__(shift=shift)
        self.shift = shift

    def process(self, rows: Any) -> Any:
        return [{"elevation": 0.1 * (int(row["id"]) + 1), "quality": int(row["id"]) + self.shift} for row in rows]


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> pa.Table:
    """Three pictures of one object each, one of two objects, one that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    files = []
    for number in range(5):
        picture = Image.new("RGB", (64, 48), "white")
        draw = ImageDraw.Draw(picture)
        draw.ellipse((22, 10, 42, 36), fill=("red", "green", "blue", "red", "red")[number])
        if number == 3:
            draw.rectangle((2, 12, 14, 34), fill="blue")
        files.append(str(folder / f"{number}.png"))
        picture.save(files[-1])
    (folder / "4.png").write_bytes(b"no picture")
    licences = ["CC0-1.0", "CC0-1.0", None, None, None]
    return pa.table({"id": [str(n) for n in range(5)], "file": files, "licence": licences, "category": list("aabbb")})


def plan(items: pa.Table, *more: Stage) -> Plan:
    stages = [ReadImage(), CentrePicture(size=16), ImageToOrbit("emu:tiny", size=16, steps=1, device="cpu")]
    return Plan([Step(stage) for stage in (*stages, FrameMasks(), *more)], items.column_names)


def test_pictures_become_a_set_that_training_reads(items, tmp_path):
    store = Store(tmp_path / "run", items, unit=2)
    first = plan(items)
    run(first, store, quiet=True)
    done = pack(first, store, tmp_path / "set", quiet=True)
    print(done, sorted(p.name for p in (tmp_path / "set").iterdir()))
    errors = [
        store.results(first, step, unit, ())["error"].to_pylist()
        for step in (0, 1)
        for unit in (1, 2)
        if store.results(first, step, unit, ())
    ]
    print(errors)
    pixels = (tmp_path / "set" / "shard-000000.tar").read_bytes()
    second = plan(items, Label())
    run(second, store, quiet=True)
    done = pack(second, store, tmp_path / "set", quiet=True)
    print(done)
    print(ShardSet(str(tmp_path / "set")).attributes().to_pylist())
