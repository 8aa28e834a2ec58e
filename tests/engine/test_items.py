"""Tables of items as people have them, and bad ones, each with one sentence."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vfusion3d.engine import read_items
from vfusion3d.errors import UsageError


def written(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


LONG = "very " * 500_000 + "long"


@pytest.mark.parametrize(
    ("name", "content", "ids", "prompts"),
    [
        ("a.txt", "\ufeffa\r\n\n  an\u2028owl \n19", [f"{k:08d}" for k in range(3)], ["a", "an\u2028owl", "19"]),
        ("a.csv", '\ufeffprompt,id\n"a, ""red""",007\n"two\nlines",8\n', ["007", "8"], ['a, "red"', "two\nlines"]),
        ("a.csv", f"prompt\n1984\n{LONG}\n", ["00000000", "00000001"], ["1984", LONG]),
        ("a.tsv", "id\tprompt\nx\ta, b\n", ["x"], ["a, b"]),
        ("a.jsonl", '{"id": "x", "prompt": "ein Bär"}\n{"id": "y", "prompt": null}\n', ["x", "y"], ["ein Bär", None]),
        ("a.parquet", pa.table({"n": [1], "prompt": ["a"], "id": [7]}), ["7"], ["a"]),
    ],
)  # fmt: skip
def test_tables(tmp_path, name, content, ids, prompts):
    table = read_items(written(tmp_path, name, content))
    assert table.column_names[0] == "id" and table["id"].to_pylist() == ids and table["prompt"].to_pylist() == prompts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", " \n\n", "is empty; give at least one"),
        ("a.csv", "", "is empty; give at least one"),
        ("a.csv", "prompt\n", "is empty; give at least one"),
        ("a.jsonl", "", "is empty; give at least one"),
        ("a.csv", "caption,id\na,b\n", "has no column 'prompt', but caption, id; name the one that holds it"),
        ("a.csv", "id,prompt\nx,a\ny,b\nx,c\n", "has the id 'x' twice; ids must differ"),
        ("a.csv", "id,prompt\nx,a\n,b\n", "has rows without an id; give every row one, or leave ids out"),
        ("a.csv", "prompt,error\na,b\n", "has the column 'error', which the stages use themselves; give it another"),
        ("a.csv", "prompt,prompt\na,b\n", "has the column 'prompt', twice; give it another name"),
        ("a.csv", "id,prompt\nx\n", r"cannot be read \(.*Expected 2 columns, got 1.*\); save it as UTF-8 text"),
        ("a.txt", "ein Bär".encode("latin-1"), r"cannot be read \(.*utf-8.*\); save it as UTF-8 text"),
        ("a.csv", "prompt\nein Bär\n".encode("latin-1"), r"cannot be read \(.*utf-8.*\); save it as UTF-8 text"),
        ("a.csv", "prompt\na cup\n".encode("utf-16"), "; "),
        ("a.jsonl", '{"prompt": "ein Bär"}\n'.encode("latin-1"), r"cannot be read \(.*\); save it as UTF-8 text"),
        ("a.parquet", "no parquet", r"cannot be read \(.*\)"),
        ("a.xlsx", "x", r"must be one of \.txt, \.csv, \.tsv, \.jsonl, \.parquet"),
    ],
)
def test_bad_tables(tmp_path, name, content, words):
    path = written(tmp_path, name, content)
    with pytest.raises(UsageError, match=words) as caught:
        read_items(path)
    assert str(caught.value).startswith(f"The table of items {path} ") and "\n" not in str(caught.value)


def test_a_table_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageError, match="does not exist or may not be read; check the path"):
            read_items(path)
