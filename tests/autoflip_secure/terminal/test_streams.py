"""Standard output: what cannot be shown is replaced, and an answer for scripts stands alone, whoever else prints."""

import contextlib
import io
import os
import re
import sys
from pathlib import Path

import forked
import pytest

from autoflip_secure.terminal import streams

LOUD = (
    "import ctypes, json, os, subprocess, sys, atexit\nfrom autoflip_secure.terminal import streams\n"
    "print('before')\n"
    "with streams.answer_alone():\n"
    "    print('python')\n    os.write(1, b'descriptor\\n')\n    subprocess.run(['echo', 'child'])\n"
    "    ctypes.CDLL(None).puts(b'c'); ctypes.CDLL(None).fflush(None)\n"
    "    streams.answer(json.dumps({'a': 1}))\n    print('python again')\n"
    "print('afterwards')\natexit.register(print, 'at exit')\n"
)


def test_an_answer_alone_whoever_prints(tmp_path: Path) -> None:
    done = forked.run(code=LOUD, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, 'before\n{"a": 1}\n')
    assert {"python", "descriptor", "child", "c", "python again", "afterwards"} <= set(done.stderr.split("\n"))


def test_an_answer_without_standard_error(tmp_path: Path) -> None:
    done = forked.run(code=f"import os; os.close(2)\n{LOUD}", cwd=tmp_path)
    assert done.stdout == 'before\n{"a": 1}\n'


def test_a_stream_without_a_descriptor_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with streams.answer_alone():
            print("loud")
            streams.answer("{}")
        print("back")
    assert (out.getvalue(), err.getvalue()) == ("{}\nback\n", "loud\n")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"gr??er ?\n"), ("latin-1", b"gr\xf6\xdfer ?\n")])
def test_characters_that_a_terminal_lacks(encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    streams.show_what_can_be_shown()
    streams.answer("größer …")
    assert raw.getvalue() == shown


def test_names_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's name may hold any bytes."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    streams.show_what_can_be_shown()
    streams.answer(os.fsdecode(b"run\xff"))
    assert raw.getvalue() == b"run?\n"


def test_nobody_reads(tmp_path: Path) -> None:
    """As behind `| head`: nothing is shown, and the exit code is the answer's."""
    code = "import os, sys\nfrom autoflip_secure.terminal import streams\nstreams.answer('x' * 100000)\nsys.exit(1)\n"
    reading, writing = os.pipe()
    os.close(reading)
    with forked.start(code=code, cwd=tmp_path, stdout=writing) as process:
        os.close(writing)
        _, told = process.communicate(60)
    assert (process.returncode, told) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_an_answer_that_finds_no_room_is_an_error(tmp_path: Path) -> None:
    with (
        open("/dev/full", "w", encoding="utf-8") as full,
        forked.start("list", "--json", cwd=tmp_path, stdout=full) as process,
    ):
        _, told = process.communicate(60)
    assert process.returncode == 2, told
    assert told == (
        "error: standard output: cannot be written (No space left on device), so the answer is lost; files are "
        "written\n"
    )


def test_every_command_for_scripts_answers_alone() -> None:
    """Whoever takes --json says so where errors become exit codes."""
    found = 0
    for path in (Path(streams.__file__).parents[1] / "commands").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        calls = re.findall(r"with exit_codes\(([^)]*)\)[:,]", text)
        if "as_json: Json" in text:
            assert calls, path
            assert all("as_json" in call for call in calls), path
            found += 1
    assert found == 12
