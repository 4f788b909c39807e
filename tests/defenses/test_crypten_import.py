"""CrypTen is imported in one place, leaves nothing behind that is not its own, and when missing says how to get it."""

import subprocess
import sys
from pathlib import Path

import pytest

from autoflip_secure.errors import InputError
from defenses import crypten_import

ROOT = Path(__file__).parents[2]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stand_in_is_gone_after_the_import() -> None:
    found = run(
        "import sys; from defenses.crypten_import import crypten; c = crypten(); assert c is crypten();"
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
    with pytest.raises(InputError, match=r"SKLEARN_ALLOW\S+=True pip install 'autoflip-secure\[secure\]'"):
        crypten_import.crypten()


def test_a_crypten_that_cannot_be_imported_is_not_left_half_there() -> None:
    found = run(
        "import sys; sys.modules['omegaconf'] = None\n"
        "from autoflip_secure.errors import InputError; from defenses.crypten_import import crypten\n"
        "try:\n    crypten()\nexcept InputError as error:\n    print(error)\n"
        "print([m for m in sys.modules if m.startswith('crypten')])"
    )
    assert "CrypTen cannot be imported (" in found
    assert "omegaconf" in found
    assert found.splitlines()[-1] == "[]"


def test_nothing_of_the_engine_needs_crypten() -> None:
    found = run(
        "import sys, defenses.secure_aggregation, defenses.crew, defenses.party; print('crypten' in sys.modules)"
    )
    assert found.strip() == "False"
