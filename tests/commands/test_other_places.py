"""Commands on other people's machines: terminals, folders, models that print, and other ways to start Python."""

import errno
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from click.testing import Result
from plugin_tables import plugins
from processes import PATIENCE
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.files import durable

ROOT = Path(__file__).parents[2]
TINY = """
name: tiny
question: größer …
clients: 5
cohort: 2
rounds: 2
training: {epochs: 5, batch_size: 16}
data: {kind: digits, train_samples: 400, test_samples: 50}
model: {kind: mlp, hidden: [32]}
algorithm: fedavg
seeds: [1, 2, 3]
"""
LOUD = """
import atexit, os, subprocess, warnings
from torch import nn

print("loud: import")
atexit.register(print, "loud: end")

def net(num_classes):
    print("loud: python")
    os.write(1, b"loud: descriptor\\n")
    subprocess.run(["echo", "loud: child"])
    warnings.warn("this model is odd. And more")
    warnings.warn("this will change", FutureWarning)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep and its baseline; never change them."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    for arguments in (
        ("sweep", "tiny.yaml", "--out", "out", "--no-report", "--workers", 1),
        ("gate", "out", "--baseline", "b.json", "--update", "--reason", "größer …"),
    ):
        done = forked.run(*arguments, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
    return folder


def gate(folder: Path, *arguments: object, **options: str) -> Result:
    command = ["gate", str(folder / "out"), "--baseline", str(folder / "b.json"), *map(str, arguments)]
    return CliRunner(**options).invoke(app, command)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ what is printed


def test_files_are_written_before_anything_is_printed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [tmp_path / name for name in ("gate.xml", "gate.md", "step.md")]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(written[2]))

    def broken(text: str) -> None:
        assert all(path.stat().st_size for path in written)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("autoflip_secure.terminal.streams.answer", broken)
    done = gate(finished, "--junit", written[0], "--markdown", written[1])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: standard output: cannot be written (Input/output error)")


def test_a_file_that_cannot_be_written_does_not_keep_the_verdict_back(finished: Path, tmp_path: Path) -> None:
    done = gate(finished, "--junit", "/proc/nothing/gate.xml")
    assert done.exit_code == 2
    assert done.stdout.startswith("gate: pass")
    assert re.search(r"error: /proc/nothing/gate\.xml: cannot be written", done.stderr)


def test_terminals_that_are_not_utf_8(finished: Path) -> None:
    for arguments, shown in (
        (["gate", "out", "--baseline", "b.json"], "baseline: gr??er ? ("),
        (["list"], "attacks"),
        (["list", "--help"], "FAMILY"),
    ):
        done = forked.run(*arguments, cwd=finished, env={"PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stderr) == (0, "")
        assert shown in done.stdout


@pytest.mark.slow
def test_json_is_json_whoever_prints(tmp_path: Path) -> None:
    """In this process and in workers: at import, in the factory, below Python, in a child, at the end."""
    (tmp_path / "loud.py").write_text(LOUD)
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    done = forked.run(
        "sweep", "tiny.yaml", "--set", "model=loud:net", "--set", "sweep={product: {rounds: [2, 3]}}", "--workers", 2,
        "--no-report", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cells"] == 6
    heard = [line for line in done.stderr.splitlines() if not re.match(r"\d+/\d+ cells", line)]
    assert {f"loud: {what}" for what in ("import", "python", "descriptor", "child", "end")} <= set(heard)
    notes = [line for line in heard if not line.startswith("loud: ")]
    assert notes == ["note: loud.py:12 warns: this model is odd"], "said once, for all processes"


# ------------------------------------------------------------------------------------------------ folders


def test_a_drive_that_syncs_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(durable.os, "fsync", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    for _ in range(2):
        done = CliRunner().invoke(app, ["sweep", "tiny.yaml", "--out", "out", "--no-report", "--workers", "1"])
        assert done.exit_code == 0, done.output
        remark, *more = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
        assert more == [], "said once"
        assert remark.startswith("note: the file system of out")
        assert "does not report when a file has reached the disk (Invalid argument)" in remark


def test_cells_that_are_links_into_a_cache(finished: Path, tmp_path: Path) -> None:
    """As DVC and git-annex keep them: read-only, and elsewhere."""
    cache, out = tmp_path / "cache", tmp_path / "out"
    cache.mkdir()
    (out / "cells").mkdir(parents=True)
    for name in ("manifest.json", "scenario.yaml"):
        (out / name).write_bytes((finished / "out" / name).read_bytes())
    (tmp_path / "b.json").write_bytes((finished / "b.json").read_bytes())
    for path in (finished / "out" / "cells").iterdir():
        (cache / path.name).write_bytes(path.read_bytes())
        (cache / path.name).chmod(0o444)
        (out / "cells" / path.name).symlink_to(cache / path.name)
    assert gate(tmp_path).exit_code == 0
    done = CliRunner().invoke(app, ["sweep", str(out / "scenario.yaml"), "--out", str(out), "--no-report", "--json"])
    assert json.loads(done.stdout)["run"] == 0
    assert all(path.is_symlink() for path in (out / "cells").iterdir())


# ------------------------------------------------------------------------------------------------ ways to start Python


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["gate", "--help"], ["list"], ["schema"]])
def test_texts_do_not_depend_on_how_python_was_started(arguments: list[str]) -> None:
    def texts(*flags: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, *flags, "-m", "autoflip_secure", *arguments], cwd=ROOT, capture_output=True, check=True,
            env={**os.environ, "COLUMNS": "100", **variables},
        )  # fmt: skip
        assert done.stderr == b""
        return done.stdout.decode()

    plain = texts()
    assert texts("-OO", "-B", "-W", "error", "-X", "dev") == plain
    assert texts("-O", "-X", "utf8=1", PYTHONWARNINGS="error", LC_ALL="C") == plain


def test_docstrings_are_read_from_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same texts, for every plug-in and command, where Python was told to drop them."""
    from autoflip_secure.commands.gate import gate as command
    from autoflip_secure.terminal import docstrings

    things: list[type | Callable[..., object]] = [command, *(c for table in plugins().values() for c in table.values())]
    plain = [docstrings.docstring(thing) for thing in things]
    assert all(plain)

    class Flags:
        optimize = 2

    monkeypatch.setattr(docstrings.sys, "flags", Flags)
    assert [docstrings.docstring(thing) for thing in things] == plain
    assert docstrings.docstring(dict.fromkeys) == ""


@pytest.mark.slow
def test_a_sweep_does_not_depend_on_how_python_was_started(finished: Path, tmp_path: Path) -> None:
    """Warnings as errors would end the server of worker processes at its first import."""
    done = subprocess.run(
        [
            sys.executable, "-OO", "-W", "error", "-m", "autoflip_secure", "sweep", finished / "tiny.yaml",
            "--out", "out", "--set", "sweep={product: {rounds: [2, 3]}}", "--workers", "2", "--json",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cells"] == 6
    assert not [line for line in done.stderr.splitlines() if not re.match(r"\d+/\d+ cells|writing the report", line)]
