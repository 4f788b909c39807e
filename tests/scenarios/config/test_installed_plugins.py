"""Plug-ins that a distribution brings: found, resumed, and named with their distribution when damaged."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from installed import EXAMPLE, distribution, example
from outside_plugins import SMALL, ran, read
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.plugin_families import survey
from autoflip_secure.scenarios.config.settings import json_schema
from autoflip_secure.scenarios.testing.robustness import Robustness

ROOT = Path(__file__).parents[3]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where distributions are installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def flat(result: Result) -> str:
    """What was printed, before it was broken into lines."""
    return re.sub(r"\n +", " ", result.output)


# ------------------------------------------------------------------------------------------------ entry points


@pytest.fixture
def installed_example(site: Path) -> Iterator[Path]:
    yield example(site)
    forget_example()


def forget_example() -> None:
    """As in a new process."""
    for name in [name for name in sys.modules if name.split(".")[0] == "autoflip_example"]:
        del sys.modules[name]


@pytest.mark.slow
def test_the_example_is_found_swept_resumed_and_gated(
    installed_example: Path, here: Callable[..., Result], tmp_path: Path
) -> None:
    listed = here("list", "attacks")
    assert "negated" in listed.output
    assert "Malicious clients send their update with its sign flipped. (of autoflip-example 0.1.0)" in flat(listed)
    assert "factor: 1.0  (c, times the honest update's length)" in flat(listed)
    attack = "sweep.attack=[{kind: negated, factor: 4, scope: 0.25}]"
    sweep = ("sweep", EXAMPLE / "scenario.yaml", "--set", "rounds=2", "--set", "seeds=[10]", "--set", attack)
    sweep = (*sweep, "--workers", 1, "--no-report")
    done = here(*sweep)
    assert done.exit_code == 0, done.output
    assert "3 cells: 3 run" in done.output
    run = tmp_path / "runs" / "plugin-example"
    assert "3 cells: 0 run, 3 from before" in here(*sweep).output
    base = ("gate", run, "--baseline", tmp_path / "base.json")
    assert here(*base, "--update", "--reason", "first", "--allow-unlearned").exit_code == 0
    assert here(*base).exit_code in (0, 2)
    assert "worse" not in here(*base).output.replace("not worse", "")

    source = installed_example / "autoflip_example" / "attack.py"
    source.write_text(source.read_text().replace("-self.factor", "-2 * self.factor"))
    forget_example()
    refused = here(*sweep)
    assert refused.exit_code == 2
    assert "source of attack.kind negated (autoflip_example.attack:SignFlip) and what it imports: sha256" in (
        refused.output
    )
    for path in installed_example.glob("*.dist-info/entry_points.txt"):
        path.unlink()
    assert here(*base).exit_code in (0, 2), "what is finished can be read without the plug-ins"


def test_the_schema_knows_what_is_installed(installed_example: Path) -> None:
    schema = json.dumps(json_schema())
    assert "times the honest update's length" in schema
    assert '"negated"' in schema
    assert '"norm_weighted"' in schema


def test_the_fixture_runs_plug_ins(installed_example: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SMALL)
    results = Robustness(tmp_path, tmp_path / "cache")("s.yaml", attack={"kind": "negated", "factor": 9, "scope": 0.5})
    assert 0 <= results.accuracy(attack="negated").mean <= 1
    assert results.accuracy(factor=9).n == 1


FLIP = "from own_plugins import Flip, Half, Other\n"
DAMAGED: dict[str, tuple[str, str, str]] = {  # entry point -> target, source of its module, what is said
    "gone": ("rival_gone:Flip", "", "cannot import rival_gone"),
    "needs": ("rival:Flip", "import not_there_at_all\n", "it is there, but needs not_there_at_all: install that"),
    "fails": ("rival:Flip", "1 / 0\n", "ZeroDivisionError: division by zero"),
    "ends": ("rival:Flip", "raise SystemExit(3)\n", "SystemExit: it ends the program"),
    "syntax": ("rival:Flip", "def f(:\n", "SyntaxError"),
    "absent": ("rival:Flop", FLIP, "rival has no 'Flop'; did you mean 'Flip'?"),
    "module": ("rival", FLIP, "entry point = 'rival': should be package.module:Class"),
    "abstract": ("rival:Attack", "from autoflip_secure.interfaces import Attack\n", "changes nothing"),
    "number": ("rival:Flip", "Flip = 3\n", "is no subclass of Attack (attack), Aggregator (aggregator)"),
    "default": ("rival:Odd", "from own_plugins import Odd\n", "its default of size is not valid"),
    "renamed": ("rival:Other", FLIP, "its class says kind = 'other', its entry point 'renamed'"),
    "label_flip": ("rival:Flip", FLIP, "is the kind of a built-in attack"),
    "2nd.kind": ("rival:Flip", FLIP, "a kind has letters, digits, - and _"),
}


def damaged(site: Path, kind: str) -> tuple[str, str]:
    """Install the one called ``kind``; its module, and what is said of it."""
    target, source, why = DAMAGED[kind]
    module = f"rival_{list(DAMAGED).index(kind)}"
    points = {kind: target.replace("rival:", f"{module}:")}
    distribution(site, "rival-tools", points, {module: source} if source else {})
    return module, why.replace("rival has", f"{module} has")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_plug_in_is_named_and_in_nobodys_way(kind: str, own: Path, site: Path, said: list[str]) -> None:
    module, why = damaged(site, kind)
    read("attack=label_flip")
    heard = said.copy()
    assert why in survey().damaged[f"{kind} of rival-tools 1.0"]
    if kind == "label_flip":
        assert heard == [f"rival-tools 1.0 also offers 'label_flip'; the built-in is meant by that name; write kind: "
                        f"'{module}:Flip' for the other"]  # fmt: skip
        return
    with pytest.raises(InputError) as error:
        read(f"attack={kind}")
    if kind not in ("module", "2nd.kind"):
        assert "attack.kind" in str(error.value)
        assert "(of rival-tools 1.0): " in str(error.value)
        assert "; or update rival-tools, or uninstall it" in str(error.value)


@pytest.mark.slow
def test_commands_show_damaged_plug_ins_and_go_on(own: Path, site: Path, here: Callable[..., Result]) -> None:
    _, why = damaged(site, "needs")
    assert ran("attack=label_flip").config["attack"]["share"] == 0.3
    listed = here("list")
    assert listed.exit_code == 0, listed.output
    assert "damaged plug-ins\n  needs of rival-tools 1.0" in listed.output
    assert why in flat(listed)
    assert here("schema").exit_code == 0


def test_two_distributions_with_one_kind(own: Path, site: Path) -> None:
    distribution(site, "first-tools", {"twice": "first_tools:Flip"}, {"first_tools": FLIP})
    distribution(site, "other-tools", {"twice": "other_tools:Flip"}, {"other_tools": FLIP})
    with pytest.raises(InputError, match=r"first-tools 1\.0 and other-tools 1\.0 all offer it; write one"):
        read("attack=twice")
    assert ran("attack=first_tools:Flip").config["attack"]["kind"] == "first_tools:Flip"
    assert "twice of first-tools 1.0" in survey().damaged


def test_nothing_is_imported_that_nobody_asked_for(site: Path) -> None:
    distribution(site, "idle-tools", {"idle": "idle_tools:Flip"}, {"idle_tools": "1 / 0\n"})
    ran("attack=gaussian_noise")
    assert "idle_tools" not in sys.modules


def test_entry_points_that_cannot_be_read(site: Path) -> None:
    distribution(site, "odd-tools", {})
    (site / "odd_tools-1.0.dist-info" / "entry_points.txt").write_text("[autoflip_secure.plugins]\nno equals sign\n")
    ran("attack=gaussian_noise")
    assert "entry_points.txt cannot be read" in survey().damaged["odd-tools 1.0"]
    distribution(site, "latin-tools", {})
    (site / "latin_tools-1.0.dist-info" / "entry_points.txt").write_bytes(b"[autoflip_secure.plugins]\n\xff = a:B\n")
    ran("attack=gaussian_noise")


# ------------------------------------------------------------------------------------------------ trackers


def test_a_tracker_of_ones_own(own: Path, here: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SMALL)
    sweep = ("sweep", "s.yaml", "--no-report", "--workers", 1)
    done = here(*sweep, "--tracker", "own_plugins:Lines=cells.txt")
    assert done.exit_code == 0, done.output
    assert "lines: 1 runs written" in done.output
    assert (tmp_path / "cells.txt").read_text().startswith("small ")
    refusals = {
        "own_plugins:Flip": "Flip is no tracker",
        "nothing": "unknown kind 'nothing'; allowed: mlflow, tensorboard",
        "tensorboard": "needs a place; write --tracker tensorboard=PLACE",
        "own_plugins:Broken": "failed (ZeroDivisionError: no luck); finished cells are kept",
    }
    for tracker, why in refusals.items():
        done = here(*sweep, "--tracker", tracker)
        assert done.exit_code == 2
        assert why in done.output
