from __future__ import annotations

import pyarrow as pa
import pytest

from vfusion3d.data.query import parse_query
from vfusion3d.errors import UsageError

TABLE = pa.table(
    {
        "row": [0, 1, 2, 3],
        "quality": [0.1, 0.6, None, 0.9],
        "elevation": [0.2, None, -0.3, 0.4],
        "prompt": ["a cat", "a dog", None, "an owl"],
        "good": [True, False, None, True],
    }
)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("quality > 0.5", [1, 3]),
        ("not quality > 0.5", [0]),  # a null is neither
        ("quality > 0.5 and elevation is not null", [3]),
        ("quality IS NULL or prompt == 'a cat'", [0, 2]),
        ("elevation is None", [1]),
        ("0.1 <= quality < 0.9", [0, 1]),
        ("elevation < -0.1", [2]),
        ("prompt in ['a cat', 'an owl']", [0, 3]),
        ("prompt not in ('a cat', 'an owl')", [1]),
        ("good", [0, 3]),
        ("good == False or (quality != 0.1 and not good)", [1]),
        ("quality > elevation", [3]),
    ],
)
def test_rows(query: str, rows: list[int]) -> None:
    expression, used = parse_query(query, TABLE.column_names)
    assert TABLE.filter(expression)["row"].to_pylist() == rows
    assert used <= {"quality", "elevation", "prompt", "good"} and used


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("qualty > 0.5", "there is no column 'qualty'; there are elevation, good"),
        ("quality >", "does not parse"),
        ("", "does not parse"),
        ("quality = 0.5", "does not parse"),
        ("1 < 2", "both constants"),
        ("__import__('os').system('true')", "is no comparison"),
        ("quality.real > 1", "neither a column nor a number"),
        ("quality + 1 > 2", "neither a column nor a number"),
        ("quality is 0.5", "only serves for"),
        ("prompt in 'a cat'", "needs a column before it and a list"),
    ],
)
def test_mistakes(query: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"The query .* cannot be used") as caught:
        parse_query(query, TABLE.column_names)
    assert words in str(caught.value) and str(caught.value).endswith(".")
