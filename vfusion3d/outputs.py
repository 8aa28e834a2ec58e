"""Results on disk: all of a folder or nothing, and one sentence when the disk says no."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vfusion3d.errors import OutputError, VFusion3DError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_NOT_A_FOLDER = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
CANNOT_WRITE = (*_FULL, *_FORBIDDEN, *_NOT_A_FOLDER)
"""Error numbers of a disk that says no."""


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors while writing ``path`` into one sentence.

    Raises:
        OutputError: in place of an `OSError`.
    """
    try:
        yield
    except VFusion3DError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            reason = "the disk is full; nothing of this result was kept; free some space"
        elif error.errno in _FORBIDDEN:
            reason = "writing there is not permitted; choose another folder or change its permissions"
        elif error.errno in _NOT_A_FOLDER:
            reason = "a file is in the way where a folder is needed; choose another folder"
        else:
            reason = f"{error.strerror or error}; choose another folder"
        raise OutputError(f"Output '{path}' cannot be written: {reason}.") from error


def say(text: str) -> None:
    """Print a result on standard output, at once.

    Raises:
        OutputError: if nobody reads it any more, or it goes to a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is left unsaid must not fail again at the exit
        raise OutputError(
            f"Standard output cannot be written ({error.strerror}); send it to a file on a disk with free space."
        ) from error


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents, and check that files can be created in it.

    Raises:
        OutputError: if the path is a file, read-only or cannot be created.
    """
    path = Path(path)
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file by way of `atomic_file`.

    Raises:
        OutputError: if it cannot be written; nothing is left behind then.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write under a temporary name beside ``path``; flushed to the disk and renamed when the block ends.

    Args:
        path: The file to be.
        replace: What is there gives way; otherwise it stays and the error's cause is a `FileExistsError`, also where
            another process, on another machine too, came first.

    Raises:
        OutputError: if it cannot be written; nothing is left behind then, and what was there before stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with output_errors(path):
        try:
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(partial, path)
            else:
                os.link(partial, path)
                partial.unlink()
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def result_folder(path: str | Path, overwrite: bool = False, marker: str = "report.json") -> Iterator[Path]:
    """A folder that appears complete or not at all.

    Yields a temporary folder beside ``path``. When the block ends it is renamed to ``path``; when it raises
    (also on Ctrl-C) it is removed.

    Args:
        path: The folder to be.
        overwrite: Replace an earlier result: a folder that is empty or holds ``marker``.
        marker: The file by which an earlier result is known.

    Raises:
        OutputError: if ``path`` exists and may not be replaced, or something cannot be written.
    """
    path = Path(path)
    check_replaceable(path, overwrite, marker)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            yield partial
            partial.chmod(0o777 & ~_umask())
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
                os.replace(path, old / path.name)
                os.replace(partial, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(partial, path)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
                raise error.__cause__ from None  # said again for `path`, which the user knows
            raise


def carry_over(folder: Path, partial: Path) -> None:
    """Copy into a result that is being made what else its predecessor's folder holds, so that it is not lost."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if not (partial / path.name).exists():
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, partial / path.name)


def check_replaceable(path: Path, overwrite: bool, marker: str = "report.json") -> None:
    """Check that a result may be written at ``path``.

    Raises:
        OutputError: if something is there that must be kept.
    """
    with output_errors(path):
        if not path.exists():
            return
        if not path.is_dir():
            raise OutputError(f"Output '{path}' is a file, not a folder; choose another folder.")
        if not any(path.iterdir()):
            return
        if not overwrite:
            raise OutputError(f"Output '{path}' already exists; choose another folder or allow overwriting it.")
        if not (path / marker).exists():
            raise OutputError(
                f"Output '{path}' exists and holds no {marker}, so it is no earlier result and is not overwritten; "
                "choose another folder."
            )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
