"""Files of a data set: where they lie, and reading one so that every damage becomes a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from autoflip_secure.errors import DataError
from autoflip_secure.files.first_bytes import glance, instead
from autoflip_secure.files.regular_files import open_regular
from autoflip_secure.terminal.advice import without_unsafe_advice
from autoflip_secure.terminal.near_names import near, nearby
from autoflip_secure.terminal.visible import short

MOST_BYTES = 2**32  # of one file: what is read is held in memory, several times over


def absolute(path: Path) -> Path:
    """``path`` with ``~`` and the working directory filled in; links stay."""
    return Path(os.path.abspath(path.expanduser()))


@contextmanager
def opened(path: Path, wanted: str, way_out: str, *expected: str) -> Iterator[BufferedReader]:
    """A file of data, opened for reading; whatever fails inside is a sentence about it.

    Args:
        path: the file.
        wanted: what it should be, as in "an .npz".
        way_out: what to do when it is something else, or damaged.
        expected: the kinds of :func:`autoflip_secure.files.first_bytes.look` that it may be.

    Raises:
        DataError: the file is absent, unreadable, damaged, too large, or something else.
    """
    head = glance(path)
    if (head or os.path.isfile(path)) and (sentence := instead(head, wanted, way_out, *expected)) is not None:
        raise DataError(f"{path}: {sentence}")
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                raise DataError(f"{path}: has {size:,} bytes, and at most {MOST_BYTES:,} are read; take a part of it")
            yield file
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{nearby(path)}; give the path of {wanted}") from error
    except MemoryError:
        raise
    except Exception as error:  # libraries fail in their own ways, some with an OSError that no system gave a number
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path}: cannot be read ({error.strerror}); give the path of {wanted}") from error
        why = without_unsafe_advice(f"{error!s:.200}")
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        raise DataError(
            f"{path}: found {size} bytes that are not a whole {wanted.partition(' ')[2]} "
            f"({type(error).__name__}: {short(why, 200)}); {way_out}"
        ) from error


def locate(folders: Sequence[Path], names: Sequence[str], *, packed: bool = False) -> dict[str, Path] | None:
    """The files ``names``, all from one folder, the first of ``folders`` that has them all.

    Args:
        folders: where to look, in order.
        names: file names.
        packed: ``NAME.gz`` will do where ``NAME`` is not there.

    Returns:
        name -> path; None when no folder has them all.
    """
    for folder in folders:
        found = {name: path for name in names if (path := _present(folder, name, packed))}
        if len(found) == len(names):
            return found
    return None


def missing(folders: Sequence[Path], names: Sequence[str], *, packed: bool = False) -> str:
    """What :func:`locate` looked for and where, for a message; only what is really missing when a folder has a part."""
    suffix = "[.gz]" if packed else ""
    for folder in folders:
        absent = [name for name in names if not _present(folder, name, packed)]
        if len(absent) < len(names):
            named = ", ".join(name + suffix for name in absent)
            return f"{named} not in {folder} (the other files are){_like(folder, absent)}"
    likely = next((text for folder in folders if (text := _like(folder, names))), "")
    return f"{', '.join(name + suffix for name in names)} not in any of {', '.join(map(str, folders))}{likely}"


def _like(folder: Path, names: Sequence[str]) -> str:
    """Files that are there under another spelling, as in ``train-images.idx3-ubyte``."""
    try:
        there = os.listdir(folder)
    except OSError:
        return ""
    found = [(other[0], name) for name in names if (other := near(name, there))]
    return f"; is {found[0][0]} there what should be called {found[0][1]}?" if found else ""


def _present(folder: Path, name: str, packed: bool) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz") if packed else (folder / name,)
    return next((path for path in candidates if os.path.isfile(path)), None)
