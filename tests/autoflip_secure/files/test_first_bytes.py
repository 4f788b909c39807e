"""What a file really is, and what was meant by a name that is not there."""

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized

from autoflip_secure.files.first_bytes import LENGTH, glance, instead, look
from autoflip_secure.terminal.near_names import near, nearby

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 123456\n"
)


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


KINDS = {  # made by the libraries themselves, where those are here
    "lfs": POINTER,
    "annex": b"/annex/objects/SHA256E-s10--abc.npz\n",
    "dvc": b"outs:\n- md5: a304afb96060aad90176268345e10355\n  path: data.npz\n",
    "gzip": gzip.compress(b"x"),
    "zip": written(lambda f: zipfile.ZipFile(f, "w").writestr("a", "b")),
    "npy": written(lambda f: np.save(f, np.zeros(3))),
    "tar": tar(),
    "pickle": pickle.dumps({"a": 1}, protocol=4),
    "page": b"\xef\xbb\xbf\r\n <!DocType HTML>\n<title>Sign in</title>",
    "utf16": "name: x\n".encode("utf-16"),
    "sqlite": b"SQLite format 3\x00" + bytes(80),
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "zeros": bytes(4096),
    "empty": b"",
    "text": "name: größer\n".encode() * 200,
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_are_known_by_their_first_bytes(name: str) -> None:
    kind = look(KINDS[name])
    assert kind is not None
    assert kind.name == name
    assert instead(KINDS[name], "an X", "do Y", name) is None
    sentence = instead(KINDS[name], "an X", "do Y") or ""
    assert sentence.startswith(f"is {kind.what}")
    assert sentence.endswith(kind.way_out or "do Y")


def test_a_pointer_says_how_to_fetch() -> None:
    told = instead(POINTER, "an .npz", "save it again", "zip")
    assert told == (
        "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull` (in GitHub Actions: `lfs: true` at "
        "actions/checkout)"
    )


@given(st.binary(max_size=2 * LENGTH))
def test_any_bytes_are_something_or_nothing(content: bytes) -> None:
    kind = look(content)
    assert kind is None or (kind.name and kind.what and "\n" not in kind.what)


@settings(max_examples=sized(10, 100))
@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp", "Cn", "Co", "Zs")), min_size=1200))
def test_a_character_that_is_cut_is_still_text(text: str) -> None:
    kind = look(text.encode())
    assert kind is not None
    assert kind.name != "zeros"


def test_only_files_are_looked_at(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x" * 5000)
    found = [glance(tmp_path / name) for name in ("pipe", "none", ".", "file")]
    assert found == [b"", b"", b"", b"x" * LENGTH]


def test_near_names(tmp_path: Path) -> None:
    (tmp_path / "Runs" / "demo").mkdir(parents=True)
    (tmp_path / "mine.npz").write_text("")
    assert nearby(tmp_path / "mine.np") == f", but there is {tmp_path / 'mine.npz'}"
    assert nearby(tmp_path / "runs" / "demo" / "x.json") == f", but there is {tmp_path / 'Runs'}"
    assert nearby(tmp_path / "Runs" / "dmo" / "cells") == f", but there is {tmp_path / 'Runs' / 'demo'}"
    assert nearby(tmp_path / "nothing like it") == ""
    assert near("net", ["Net", "nets", "forward"]) == ["Net", "nets"]


def test_json_is_text() -> None:
    assert instead(json.dumps({"a": [1] * 2000}).encode(), "a cell", "restore it", "text") is None
