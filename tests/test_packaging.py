"""What a user installs: one wheel with everything in it that the code reads, and import names that are ours alone."""

import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from autoflip_secure import ownership
from autoflip_secure.errors import InputError
from autoflip_secure.ownership import PACKAGES, check_sole_owner

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, without network."""
    tree, out = tmp_path_factory.mktemp("tree") / "source", tmp_path_factory.mktemp("wheel")
    skipped = ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    copytree(ROOT, tree, ignore=skipped)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(tree)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_carries_all_code_presets_and_templates(names: set[str]) -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in names
    assert "autoflip_secure/py.typed" in names
    assert "scenarios/presets/demo.yaml" in names
    assert any(name.startswith("reports/templates/") for name in names)


def test_wheel_carries_nothing_else(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)


def test_wheel_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.rsplit("/", 1)[0] for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
        assert any(name.startswith(f"{info}/licenses/LICENSE") for name in archive.namelist())
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    mandatory = [line for line in required if "extra ==" not in line]
    assert not [line for line in mandatory if "crypten" in line]
    assert [line for line in required if "crypten" in line and "secure" in line]
    assert "Requires-Python: >=3.11" in metadata
    assert "autoflip-secure = autoflip_secure.__main__:main" in scripts


def test_installed_wheel_finds_its_presets(wheel: Path, tmp_path: Path) -> None:
    """Unpacked away from the tree, as an installation is."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "from scenarios.loading import presets, load; assert len(load('demo').cells); print(presets()['demo'])"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert Path(done.stdout.strip()) == tmp_path / "scenarios" / "presets" / "demo.yaml"


# ------------------------------------------------------------------------------------------------ import names


def test_our_names_are_ours() -> None:
    check_sole_owner()
    assert set(PACKAGES) == {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}


@pytest.mark.parametrize("package", PACKAGES)
def test_another_distribution_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "rival_tools-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival-tools\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(f"rival\n{package}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=rf"rival-tools also brings a package '{package}'.*pip uninstall rival-tools"):
        check_sole_owner()


def test_another_distribution_with_other_names_is_welcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CrypTen, which brings `examples` and `benchmarks`."""
    info = tmp_path / "rival_tools-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival-tools\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("examples\nbenchmarks\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check_sole_owner()
    assert ownership.DISTRIBUTION == "autoflip-secure"


def test_a_folder_before_ours_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "reports", raising=False)
    with pytest.raises(InputError, match=r"'reports' leads to .*reports, not to"):
        check_sole_owner()


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


def test_nothing_is_installed_twice(tmp_path: Path) -> None:
    """With a stamp newer than pyproject.toml, make has nothing to do."""
    make(tmp_path, "--version")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    done = subprocess.run(["make", "-n", ".venv/.installed"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "is up to date" in done.stdout
    dry = make(tmp_path, "-n", "test").stdout
    assert "pip install" in dry, "a changed pyproject.toml installs again"
