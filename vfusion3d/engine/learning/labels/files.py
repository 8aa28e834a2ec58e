"""Labels on disk: one CSV file for each person, to which lines are only ever added."""

from __future__ import annotations

import csv
import io
import os
import re
from datetime import datetime, timezone
from pathlib import Path

from vfusion3d.errors import UsageError
from vfusion3d.outputs import make_folder, output_errors

GOOD, BAD, SKIP, UNDO = "good", "bad", "skip", "undo"
LABELS = (GOOD, BAD, SKIP)
_HEADER = "id,label,time\n"
_NAME = re.compile(r"[\w][\w .-]{0,60}")


def check_name(name: str) -> str:
    """A person's name, which may be a file's.

    Raises:
        UsageError: if it may not.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"The name {name!r} cannot be used; give letters, digits, spaces, dots and dashes.")
    return name


class LabelFile:
    """A person's labels.

    A line holds a video's id, a label (``good``, ``bad``, ``skip``) or ``undo``, which takes the video's label back,
    and the time. A line is on the disk before `add` returns; half a line, of a machine that lost power, is cut off.

    Args:
        folder: Where the files of all are.
        name: Who labels: letters, digits, spaces, dots and dashes.

    Raises:
        UsageError: if the name cannot be a file's, or the file is no file of labels.
        OutputError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> labels = LabelFile(tempfile.mkdtemp(), "anna")
        >>> labels.add("cup", "good")
        >>> labels.add("owl", "bad")
        >>> labels.undo()
        'owl'
        >>> LabelFile(labels.path.parent, "anna").labels
        {'cup': 'good'}
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        self.name, self.path = check_name(name), make_folder(Path(folder)) / f"{name}.csv"
        self.labels: dict[str, str] = {}
        """The label of each video that has one, in the order they were given."""
        with output_errors(self.path):
            if self.path.exists():
                content = self.path.read_bytes()
                whole = content[: content.rfind(b"\n") + 1]
                self.labels = _replay(whole, self.path)
                if whole != content:
                    os.truncate(self.path, len(whole))
            if not self.path.exists() or not self.path.stat().st_size:
                self._append(_HEADER)

    def add(self, video: str, label: str) -> None:
        """Label a video, anew if it has a label.

        Raises:
            UsageError: if there is no such label.
            OutputError: if it cannot be written; it is not counted as given then.
        """
        if label not in LABELS:
            raise UsageError(f"A label must be one of {', '.join(LABELS)}, but got {label!r}.")
        self._append(_line(video, label))
        self.labels.pop(video, None)
        self.labels[video] = label

    def undo(self) -> str | None:
        """Take the last label back; returns its video, or None if there is none.

        Raises:
            OutputError: if that cannot be written.
        """
        if not self.labels:
            return None
        video = next(reversed(self.labels))
        self._append(_line(video, UNDO))
        del self.labels[video]
        return video

    def _append(self, line: str) -> None:
        with output_errors(self.path), open(self.path, "ab") as file:
            before = file.tell()
            try:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, before)
                raise


def read_labels(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """What people said.

    Args:
        path: A folder of `LabelFile`, or one of them.

    Returns:
        For each person, the label of each video: ``good``, ``bad`` or ``skip``.

    Raises:
        UsageError: if there are no labels.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    people = {file.stem: _replay(file.read_bytes(), file) for file in files}
    if not any(people.values()):
        raise UsageError(f"There are no labels in {path}; make some with `vfusion3d label`.")
    return people


def _line(video: str, label: str) -> str:
    text = io.StringIO()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    csv.writer(text, lineterminator="\n").writerow([video, label, now])
    return text.getvalue()


def _replay(content: bytes, path: Path) -> dict[str, str]:
    """Labels after all lines.

    Raises:
        UsageError: naming the first line that cannot be understood.
    """
    labels: dict[str, str] = {}
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"The labels {path} cannot be read ({error}); save them as UTF-8 text.") from error
    if rows and rows[0][:2] != ["id", "label"]:
        raise UsageError(f"The file {path} holds no labels: its first line is not '{_HEADER.strip()}'.")
    for number, row in enumerate(rows[1:], 2):
        if len(row) < 2 or row[1] not in (*LABELS, UNDO):
            raise UsageError(f"Line {number} of {path} must hold an id and one of {', '.join(LABELS)}; mend it.")
        labels.pop(row[0], None)
        if row[1] != UNDO:
            labels[row[0]] = row[1]
    return labels
