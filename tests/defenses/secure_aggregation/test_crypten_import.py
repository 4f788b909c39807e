"""CrypTen is imported in one place, leaves nothing behind that is not its own, and when missing says how to get it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import forked
import pytest
from processes import PATIENCE

from autoflip_secure.defenses.secure_aggregation import crypten_import
from autoflip_secure.errors import InputError

ROOT = Path(__file__).parents[3]


def run(code: str) -> str:
    done = forked.run(code=f"import warnings; warnings.simplefilter('error')\n{code}", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stand_in_is_gone_after_the_import() -> None:
    found = run(
        "import sys; from autoflip_secure.defenses.secure_aggregation.crypten_import import crypten\n"
        "c = crypten(); assert c is crypten();"
        "print(c.__version__, [m for m in sys.modules if 'onnx_converter' in m])"
    )
    assert found.strip() == "0.4.1 []"


def test_no_other_module_imports_crypten() -> None:
    folders = ["autoflip_secure", "attacks", "defenses", "scenarios", "reports"]
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        assert "import crypten\n" not in text.replace("crypten_import import crypten\n", ""), path
        assert "from crypten." not in text, path


def test_without_crypten_the_error_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crypten", None)
    with pytest.raises(InputError, match=r"SKLEARN_ALLOW\S+=True pip install 'crypten>=0\.4\.1' 'cryptography"):
        crypten_import.crypten()


def test_the_command_asks_for_what_the_package_asks_for() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["secure"]
    assert crypten_import.INSTALL.endswith("pip install " + " ".join(f"'{name}'" for name in wanted))
    assert crypten_import.INSTALL in (ROOT / "docs" / "secure_sums.md").read_text()


@pytest.mark.slow
def test_a_machine_without_crypten_ends_with_the_command_and_starts_nothing(tmp_path: Path) -> None:
    """A finder that knows no crypten, in a process of its own, as where it was never installed."""
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'crypten': raise ModuleNotFoundError(name)\n"
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'crypten' else real(name, package)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from autoflip_secure.__main__ import main\n"
        "sys.argv = ['autoflip-secure', *sys.argv[1:]]; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "sweep", "secure_exploration", "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert (
        done.stderr.strip() == f"error: secure_sum: CrypTen is not installed; install it with: {crypten_import.INSTALL}"
    )
    assert not list((tmp_path / "out").glob("cells/*"))


@pytest.fixture(scope="module")
def by_itself() -> list[str]:
    """What a process says that has imported nothing of the project, nor CrypTen."""
    code = (
        "import sys\n"
        "for name in [name for name in sys.modules if name.startswith(('crypten', 'autoflip_secure'))]:\n"
        "    del sys.modules[name]\n"
        "from autoflip_secure.defenses.secure_aggregation import local_parties, party, session\n"
        "print('crypten' in sys.modules); sys.modules['omegaconf'] = None\n"
        "from autoflip_secure.errors import InputError\n"
        "from autoflip_secure.defenses.secure_aggregation.crypten_import import crypten\n"
        "try:\n    crypten()\nexcept InputError as error:\n    print(error)\n"
        "print([m for m in sys.modules if m.startswith('crypten')])"
    )
    return run(code).splitlines()


def test_a_crypten_that_cannot_be_imported_is_not_left_half_there(by_itself: list[str]) -> None:
    assert "CrypTen cannot be imported (" in by_itself[1]
    assert "omegaconf" in by_itself[1]
    assert by_itself[-1] == "[]"


def test_nothing_of_the_engine_needs_crypten(by_itself: list[str]) -> None:
    assert by_itself[0] == "False"
