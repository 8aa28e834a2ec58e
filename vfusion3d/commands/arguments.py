"""Arguments and recipes that do not parse: one sentence instead of a page of usage."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from vfusion3d.errors import UsageError

# Lines of jsonargparse's explanations that name its own types and not the mistake.
_FRAME = ("Does not validate against", "Subtypes:", "Errors:", "Given value type:")


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse a command's arguments.

    Raises:
        UsageError: naming the argument.
    """
    parser.exit_on_error = False
    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        raise UsageError(f"{one_line(str(error))}; see `{parser.prog} --help`.") from error


def one_line(message: str) -> str:
    """The mistake in a message of argparse or jsonargparse: where it is, what was expected and what was given.

    jsonargparse explains why a value is none of the types it may have, as a tree; the first leaf is the type that
    was meant.

    Example:
        >>> print(one_line('''Parser key "trainer.max_epochs":
        ...   Does not validate against any of the Union subtypes
        ...   Subtypes: [<class 'int'>, <class 'NoneType'>]
        ...   Errors:
        ...     - Expected a <class 'int'>
        ...     - Expected a <class 'NoneType'>
        ...   Given value type: <class 'str'>
        ...   Given value: many'''))
        trainer.max_epochs: expected int, but got many
    """
    places: list[str] = []
    mistake = value = ""
    for line in (line.strip().removeprefix("- ") for line in message.splitlines()):
        if mistake:
            if line.startswith("Given value: "):
                value = line.removeprefix("Given value: ")
                break
            continue
        if place := re.match(r"Parser key \"(.+?)\":\s*|Problem with given class_path '(.+?)':\s*", line):
            places.append(place[1] or place[2])
            line = line[place.end() :]
        if line and not line.startswith(_FRAME):
            mistake = line
    mistake = re.sub(r"Expected an? <class '(.+?)'>", r"expected \1", mistake).replace(". Got value: ", ", but got ")
    if value and mistake.startswith("expected") and "but got" not in mistake:
        mistake += f", but got {value}"
    return ": ".join([*places, mistake.rstrip(".!")])
