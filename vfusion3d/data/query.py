"""Rows chosen by a boolean expression over a table's columns, without ever running what it says as code."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection
from typing import Any

import pyarrow.compute as pc

from vfusion3d.errors import UsageError

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
}
_HELP = "write comparisons of columns with numbers or quoted text, joined by and, or, not"


def parse_query(query: str, columns: Collection[str]) -> tuple[pc.Expression, set[str]]:
    """A pyarrow expression from text in Python's grammar.

    Allowed are comparisons (also chained), ``in`` and ``not in`` with a list, ``is null`` and ``is not null``
    (or ``None``), a boolean column by itself, ``and``, ``or``, ``not`` and parentheses. A comparison with a null
    is neither true nor false: the row is not chosen.

    Args:
        query: The text.
        columns: Names that it may use.

    Returns:
        The expression and the columns that it uses.

    Raises:
        UsageError: naming what cannot be understood, or the unknown column.

    Example:
        >>> expression, used = parse_query("quality > 0.5 and prompt is not null", ["quality", "prompt"])
        >>> sorted(used)
        ['prompt', 'quality']
    """
    used: set[str] = set()

    def fail(why: str) -> UsageError:
        return UsageError(f"The query {query!r} cannot be used: {why}.")

    def value(node: ast.expr) -> Any:
        """A column or a constant."""
        if isinstance(node, ast.Name):
            if node.id not in columns:
                raise fail(f"there is no column {node.id!r}; there are {', '.join(sorted(columns))}")
            used.add(node.id)
            return pc.field(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = constant(node.operand)
            if isinstance(number, (int, float)):
                return -number
        return constant(node)

    def constant(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
            return node.value
        raise fail(f"`{ast.unparse(node)}` is neither a column nor a number nor quoted text; {_HELP}")

    def compare(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> pc.Expression:
        if isinstance(operator, (ast.Is, ast.IsNot)):
            if not (isinstance(left, ast.Name) and isinstance(right, ast.Constant) and right.value is None):
                raise fail("`is` only serves for `COLUMN is null` and `COLUMN is not null`")
            nothing = value(left).is_null()
            return nothing if isinstance(operator, ast.Is) else ~nothing
        if isinstance(operator, (ast.In, ast.NotIn)):
            if not (isinstance(left, ast.Name) and isinstance(right, (ast.List, ast.Tuple, ast.Set))):
                raise fail("`in` needs a column before it and a list after it")
            member = value(left).isin([value(element) for element in right.elts])
            return member if isinstance(operator, ast.In) else ~member & value(left).is_valid()
        first, second = value(left), value(right)
        if not isinstance(first, pc.Expression) and not isinstance(second, pc.Expression):
            raise fail(f"`{ast.unparse(left)}` and `{ast.unparse(right)}` are both constants; compare a column")
        return _COMPARE[type(operator)](first, second)

    def boolean(node: ast.expr) -> pc.Expression:
        if isinstance(node, ast.BoolOp):
            parts = [boolean(part) for part in node.values]
            whole = parts[0]
            for part in parts[1:]:
                whole = whole & part if isinstance(node.op, ast.And) else whole | part
            return whole
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~boolean(node.operand)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            whole = compare(operands[0], node.ops[0], operands[1])
            for k, operator in enumerate(node.ops[1:], 1):
                whole = whole & compare(operands[k], operator, operands[k + 1])
            return whole
        if isinstance(node, ast.Name):
            return value(node)
        raise fail(f"`{ast.unparse(node)}` is no comparison; {_HELP}")

    text = re.sub(r"\bis\s+(not\s+)?null\b", lambda match: f"is {match[1] or ''}None", query.strip(), flags=re.I)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise fail(f"it does not parse; {_HELP}") from error
    return boolean(tree.body), used
