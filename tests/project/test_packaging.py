"""What a user installs: one wheel with everything in it that the code reads, under one import name."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from built_wheel import clean

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_carries_all_code_presets_and_templates(names: set[str]) -> None:
    for folder, _, files in os.walk(ROOT / "autoflip_secure", followlinks=True):
        for path in (Path(folder, name) for name in files):
            if "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in names
    assert "autoflip_secure/py.typed" in names
    assert "autoflip_secure/scenarios/presets/demo.yaml" in names
    assert any(name.startswith("autoflip_secure/reports/templates/") for name in names)


def test_wheel_carries_nothing_else(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"autoflip_secure"}


def test_wheel_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.rsplit("/", 1)[0] for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
        assert any(name.startswith(f"{info}/licenses/LICENSE") for name in archive.namelist())
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    mandatory = [line for line in required if "extra ==" not in line]
    assert not [line for line in mandatory if re.search("crypten|pyarrow|pytest|ruff|mypy", line)]
    assert [line for line in required if "crypten" in line and "secure" in line]
    assert "Requires-Python: >=3.11" in metadata
    assert "autoflip-secure = autoflip_secure.__main__:main" in scripts


@pytest.mark.slow
def test_installed_wheel_finds_its_presets(wheel: Path, tmp_path: Path) -> None:
    """Unpacked away from the tree, as an installation is."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "from autoflip_secure.scenarios.catalogue.entries import Catalogue\n"
        "from autoflip_secure.scenarios.config.loading import load\n"
        "from autoflip_secure.scenarios.config.sources import presets\n"
        "assert len(load('demo').cells) and Catalogue.read().families\nprint(presets()['demo'])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert Path(done.stdout.strip()) == tmp_path / "autoflip_secure" / "scenarios" / "presets" / "demo.yaml"


@pytest.mark.slow
def test_a_users_file_passes_mypy_strict(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "from pathlib import Path\n"
        "from typing import assert_type\n"
        "import pandas as pd\n"
        "import autoflip_secure as af\n"
        "def mean(path: Path) -> float:\n"
        "    results = af.run(path, rounds=3, workers=2, out='runs', attack__sigma=0.3)\n"
        "    assert_type(results, af.Results)\n"
        "    assert_type(af.load('runs').report('x.html'), Path)\n"
        "    assert_type(results.rounds(), pd.DataFrame)\n"
        "    return results.accuracy(sigma=0.3).mean\n"
        "af.runs  # no such name\n"
    )
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "user.py")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (error,) = [line for line in said.stdout.splitlines() if "error:" in line]
    assert 'user.py:11: error: Module has no attribute "runs"' in error


# ------------------------------------------------------------------------------------------------ import names

NAMESAKES = ("attacks", "defenses", "scenarios", "reports")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A repository with packages of its own of the names that our folders have, and a model in one of them."""
    for name in NAMESAKES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"OWNER = 'somebody else: {name}'\n")
    (tmp_path / "attacks" / "nets.py").write_text(
        "from math import prod\nfrom torch import nn\ndef small(input_shape, num_classes):\n"
        "    inner = nn.Linear(prod(input_shape), 8)\n"
        "    return nn.Sequential(nn.Flatten(), inner, nn.ReLU(), nn.Linear(8, num_classes))\n"
    )
    (tmp_path / "tiny.yaml").write_text(
        "{name: tiny, model: 'attacks.nets:small', clients: 4, cohort: 2, rounds: 1, algorithm: fedavg, seeds: [1],\n"
        " training: {epochs: 1}}\n"
    )
    (tmp_path / "test_theirs.py").write_text(
        "import attacks, autoflip_secure.attacks, reports\n"
        "def test_both(robustness):\n"
        "    assert attacks.OWNER.endswith('attacks') and reports.OWNER.endswith('reports')\n"
        "    assert not hasattr(autoflip_secure.attacks, 'OWNER')\n"
        "    assert robustness('tiny.yaml').accuracy().n == 1\n"
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("autoflip-secure", "sweep", "tiny.yaml", "--out", "out"),
        ("python", "-m", "autoflip_secure", "sweep", "tiny.yaml", "--out", "out"),
        ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_theirs.py"),
    ],
    ids=["command", "module", "pytest"],
)
def test_the_wheel_beside_packages_of_the_same_names(
    arguments: tuple[str, ...], installed: Path, elsewhere: Path
) -> None:
    command = [str(installed / arguments[0]), *arguments[1:]]
    done = subprocess.run(command, cwd=elsewhere, env=clean(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "pytest" in arguments:
        assert "1 passed" in done.stdout
    else:
        assert (elsewhere / "out" / "report.html").exists()


def test_no_source_uses_a_folder_as_an_import_name() -> None:
    """``attacks.poisoning`` is a folder; the name is ``autoflip_secure.attacks.poisoning``, and there is no other."""
    name_first = rf"\b(?:import|from)\s+(?:[\w.]+(?:\s+as\s+\w+)?\s*,\s*)*(?:{'|'.join(NAMESAKES)})\b"
    for path in (
        p for top in ("autoflip_secure", *NAMESAKES, "tests", "benchmarks") for p in (ROOT / top).rglob("*.py")
    ):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source if re.search(name_first, source) else "")):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.partition(".")[0] in NAMESAKES], path


def test_the_folders_are_linked_into_the_package() -> None:
    for name in NAMESAKES:
        assert (ROOT / "autoflip_secure" / name).resolve() == (ROOT / name).resolve()


# ------------------------------------------------------------------------------------------------ make


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    for name in ("Makefile", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text())
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def fake_python(folder: Path, script: str) -> str:
    path = folder / "python-fake"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, "There is no '/nowhere/python'; install Python 3.11 or newer"),
        (
            'case "$*" in *version_info*) exit 1;; *) echo Python 3.9.2;; esac',
            "is Python 3.9.2, but Python 3.11 or newer",
        ),
        ('case "$*" in *ensurepip*) exit 1;; esac', "has no venv module; install it"),
    ],
)
def test_unfit_python_gets_one_sentence(script: str | None, expected: str, tmp_path: Path) -> None:
    python = "/nowhere/python" if script is None else fake_python(tmp_path, script)
    done = make(tmp_path, "demo", f"PYTHON={python}")
    assert done.returncode == 2
    assert expected in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("make")]) == 1
    assert not (tmp_path / ".venv").exists()


@pytest.fixture
def stamped(tmp_path: Path) -> Path:
    """A folder that make works in, with a .venv without stamps."""
    make(tmp_path, "--version")
    (tmp_path / ".venv").mkdir()
    return tmp_path


def dry(folder: Path, *goals: str) -> str:
    """What make would do; the Makefile and pyproject.toml are older than any stamp."""
    command = ["make", "--no-print-directory", "-n", *goals]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_demo_installs_no_test_tools_and_tests_do(stamped: Path) -> None:
    demo, test = dry(stamped, "demo"), dry(stamped, "test")
    assert re.findall(r"-e '(.*?)'", demo) == [".[secure]"]
    assert re.findall(r"-e '(.*?)'", test) == [".[secure,test]"]
    assert demo.rstrip().endswith("-m autoflip_secure demo")


def test_nothing_is_installed_twice(stamped: Path) -> None:
    """With stamps newer than pyproject.toml, make has nothing to install; with the demo's alone, tests add theirs."""
    (stamped / ".venv" / ".installed").touch()
    assert "pip install" not in dry(stamped, "demo")
    assert ".[secure,test]" in dry(stamped, "style")
    (stamped / ".venv" / ".test-tools").touch()
    assert "pip install" not in dry(stamped, "demo", "test", "types", "bench")
    changed = make(stamped, "-n", "test").stdout
    assert "pip install" in changed, "a changed pyproject.toml installs again"


def test_what_tests_install_runs_the_demo_too(stamped: Path) -> None:
    """On a fresh clone, `make test` and then `make demo` install once."""
    fake = fake_python(stamped, "true")
    (stamped / ".venv" / "bin").mkdir()
    (stamped / ".venv" / "bin" / "python").symlink_to(fake)
    for goals, stamps in ((("install",), {".installed", ".test-tools"}), (("demo",), {".installed", ".test-tools"})):
        done = subprocess.run(["make", *goals], cwd=stamped, capture_output=True, text=True, check=True)
        assert {path.name for path in (stamped / ".venv").iterdir()} - {"bin"} == stamps
        assert ("Installing" in done.stdout) == (goals == ("install",))


def test_a_lock_is_installed_with_its_hashes_and_the_project_alone_after_it(stamped: Path) -> None:
    commands = dry(stamped, "install", "LOCK=.ci/locked.txt")
    assert re.search(r"--require-hashes -r \.ci/locked\.txt && .* --no-deps -e \.$", commands, re.MULTILINE)
    assert "-e '." not in commands


def test_a_lock_without_uv_gets_one_sentence(stamped: Path) -> None:
    (stamped / "tools").mkdir()
    for tool in ("sh", "make"):
        (stamped / "tools" / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(
        ["make", "lock"], cwd=stamped, env={"PATH": str(stamped / "tools")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert line == "There is no 'uv', which writes the lock; install it: pip install uv"
