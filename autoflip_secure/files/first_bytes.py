"""What a file is, by its first bytes: before a library's guess about a file that is something else is passed on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoflip_secure.files.regular_files import open_regular

LENGTH = 1024  # bytes that are looked at


@dataclass(frozen=True)
class Kind:
    """What was found, so that "is …" is a sentence, and the way out where the kind itself shows one."""

    name: str
    what: str
    way_out: str = ""


_PAGE = "download the file itself, not the page about it (it may also say why the download was refused)"
_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"version https://git-lfs.github.com/", Kind(
        "lfs", "a Git LFS pointer, not the file itself",
        "fetch it with `git lfs pull` (in GitHub Actions: `lfs: true` at actions/checkout)")),
    (b"/annex/objects/", Kind("annex", "a git-annex pointer, not the file itself", "fetch it with `git annex get`")),
    (b"outs:\n- ", Kind("dvc", "a DVC pointer, not the file itself", "fetch it with `dvc pull`; its name has no .dvc")),
    (b"\x1f\x8b", Kind("gzip", "packed with gzip")),
    (b"PK\x03\x04", Kind("zip", "a zip archive")),
    (b"PK\x05\x06", Kind("zip", "an empty zip archive")),
    (b"BZh", Kind("bzip2", "packed with bzip2")),
    (b"\xfd7zXZ\x00", Kind("xz", "packed with xz")),
    (b"\x28\xb5\x2f\xfd", Kind("zstd", "packed with Zstandard")),
    (b"7z\xbc\xaf\x27\x1c", Kind("7z", "a 7z archive")),
    (b"\x93NUMPY", Kind("npy", "a single numpy array (.npy)")),
    (b"\x89HDF\r\n", Kind("hdf5", "an HDF5 file")),
    (b"PAR1", Kind("parquet", "a Parquet file")),
    (b"MATLAB 5.0", Kind("matlab", "a MATLAB file")),
    (b"SQLite format 3\x00", Kind("sqlite", "a SQLite database")),
    (b"\x89PNG", Kind("png", "a PNG image")),
    (b"\xff\xd8\xff", Kind("jpeg", "a JPEG image")),
    (b"%PDF", Kind("pdf", "a PDF document")),
    (b"\x7fELF", Kind("elf", "a program")),
    (b"\xff\xfe", Kind("utf16", "text in UTF-16", "save it as UTF-8")),
    (b"\xfe\xff", Kind("utf16", "text in UTF-16", "save it as UTF-8")),
    *((b"\x80" + bytes([version]), Kind("pickle", "a Python pickle")) for version in range(2, 6)),
)  # fmt: skip
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<script", b"<body")


def glance(path: Path) -> bytes:
    """The first bytes of a file; none where there is no file that can be read."""
    try:
        with open_regular(path) as file:
            return file.read(LENGTH)
    except OSError:
        return b""


def look(head: bytes) -> Kind | None:
    """What begins like that; None where it is nothing that is known.

    >>> look(b"  <!DOCTYPE html><title>404</title>").what
    'a web page'
    """
    head = head[:LENGTH]
    if not head:
        return Kind("empty", "empty")
    if not head.strip(b"\x00"):
        return Kind("zeros", "nothing but zeros so far", "the download or the copy was cut short: fetch it again")
    known = next((kind for start, kind in _STARTS if head.startswith(start)), None)
    if known is not None or head[257:262] == b"ustar":
        return known or Kind("tar", "a tar archive")
    opening = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if opening.startswith((*_PAGES, b"<?xml")):
        return Kind("page", "XML" if opening.startswith(b"<?xml") else "a web page", _PAGE)
    return Kind("text", "plain text") if _is_text(head) else None


def instead(head: bytes, wanted: str, way_out: str, *expected: str) -> str | None:
    """One sentence on a file that is something else; None where it is of an expected kind, or nobody knows.

    Args:
        head: its first bytes.
        wanted: what it should be, as in "an .npz".
        way_out: where the kind shows none.
        expected: names of kinds that are what they should be.

    >>> instead(b"%PDF-1.7", "an .npz", "save it with numpy.savez", "zip")
    'is a PDF document, not an .npz; save it with numpy.savez'
    """
    kind = look(head)
    if kind is None or kind.name in expected:
        return None
    rest = "" if "not the file itself" in kind.what else f", not {wanted}"
    return f"is {kind.what}{rest}; {kind.way_out or way_out}"


def _is_text(head: bytes) -> bool:
    for cut in range(4):  # the last character may be cut
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)
    return False
