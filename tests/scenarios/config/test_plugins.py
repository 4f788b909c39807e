"""Plug-ins from outside: found, named, run, told apart, resumed, and named with their distribution when damaged."""

import json
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from installed import EXAMPLE, distribution, example
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.errors import InputError
from autoflip_secure.records.proven import bound
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.wording.verdict import opening
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.plugin_families import FAMILIES, survey
from autoflip_secure.scenarios.config.settings import json_schema
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.testing.robustness import Robustness

ROOT = Path(__file__).parents[3]
SMALL = """
name: small
clients: 4
cohort: 3
rounds: 2
training: {epochs: 1, batch_size: 64}
data: {kind: digits, train_samples: 120, test_samples: 50}
model: {kind: mlp, hidden: [8]}
algorithm: fedavg
seeds: [3]
"""
OWN = '''
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import nn, where

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.interfaces import Aggregate, Aggregator, Attack, ClientPrivacy, DataAttack, Pruner, UpdateAttack
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.defenses.aggregators.krum import Krum
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median
from autoflip_secure.scenarios.data.base import Arrays, DataSource
from autoflip_secure.scenarios.models.chains import Model
from autoflip_secure.scenarios.data.partitions import Partition
from autoflip_secure.scenarios.trackers.base import Tracker, Written


class Flip(UpdateAttack):
    """Turned around."""

    factor: Annotated[float, Field(gt=0, description="how much")] = 1.0

    def updates(self, updates, malicious, active, generators):
        return where(malicious[:, None], -self.factor * updates, updates)


class Shift(DataAttack):
    """The next class."""

    def labels(self, labels, num_classes, generator):
        return (labels + 1) % num_classes


class Middle(Aggregator):
    """The median, by another way."""

    def aggregate(self, state, view):
        n = len(view.updates)
        return Aggregate(view.updates.quantile(0.5, dim=0), view.samples.new_full((n,), 1 / n), None, state)


class Again(Median):
    """The median under a name of its own."""


class Half(Pruner):
    """Every other weight of hidden layers."""

    def mask(self, view):
        mask = view.mask.clone()
        for segment in view.layout.hidden:
            mask[segment.start : segment.stop : 2] = False
        return mask


class Turns(Partition):
    """In turn."""

    def deal(self, labels, clients, groups, rng):
        return [np.arange(client, len(labels), clients) for client in range(clients)]


class Points(DataSource):
    """Two clouds."""

    apart: float = 2.0

    def read(self):
        rng = np.random.default_rng(0)
        y = np.arange(80) % 2
        x = (rng.standard_normal((80, 3)) + self.apart * y[:, None]).astype(np.float32)
        return Arrays(x[:60], y[:60], x[60:], y[60:], ("near", "far"))


class Line(Model):
    """One layer."""

    def make(self, input_shape, num_classes):
        size = int(np.prod(input_shape))
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 4), nn.ReLU(), nn.Linear(4, num_classes))


class Quiet(ClientLevel):
    """Client level without the noise."""

    def send(self, state, updates, view):
        return updates


class Lines(Tracker):
    """A line a cell."""

    def __init__(self, place, sweep):
        self.place = place

    def write(self, sweep, records, outcome=None):
        with open(self.place, "w") as file:
            file.writelines(f"{sweep} {record.cell}\\n" for record in records)
        return Written("lines", self.place, len(records), 0, f"cat {self.place}")


class Broken(Tracker):
    def __init__(self, place, sweep):
        pass

    def write(self, sweep, records, outcome=None):
        raise ZeroDivisionError("no luck")


class Unwritten(UpdateAttack):
    pass


class Nothing(Attack):
    pass


class LikeMean(Mean):
    pass


class Other(UpdateAttack):
    kind: Literal["other"] = "other"

    def updates(self, updates, malicious, active, generators):
        return updates


class Loose(UpdateAttack, frozen=False):
    def updates(self, updates, malicious, active, generators):
        return updates


class Odd(UpdateAttack):
    size: int = "many"

    def updates(self, updates, malicious, active, generators):
        return updates


def function():
    pass
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A module of classes that no entry point names."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_plugins.py").write_text(OWN)
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))


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


def read(*overrides: str) -> LoadedScenario:
    return resolve(Document.parse(SMALL, "s.yaml"), overrides)


def ran(*overrides: str) -> RunRecord:
    (record,) = run_block(plan(read(*overrides)).blocks[0])
    return record


def flat(result: Result) -> str:
    """What was printed, before it was broken into lines."""
    return re.sub(r"\n +", " ", result.output)


def test_every_family_is_offered_and_nothing_else() -> None:
    assert set(FAMILIES) == {"attack", "aggregator", "pruner", "data", "partition", "model", "privacy", "tracker"}
    assert survey().good == ()
    assert survey().damaged == {}


BY_PATH = [
    "attack={kind: 'own_plugins:Flip', factor: 3, scope: 0.5}",
    "attack=own_plugins:Shift",
    "algorithm={name: mine, pruner: none, aggregator: 'own_plugins:Middle'}",
    "algorithm={name: mine, pruner: 'own_plugins:Half', aggregator: mean}",
    "partition=own_plugins:Turns",
    "data={kind: 'own_plugins:Points', apart: 3}",
    "model={kind: 'own_plugins:Line'}",
    "privacy={kind: 'own_plugins:Quiet', noise_multiplier: 1, noise: distributed, allow_unproven: true}",
]


@pytest.mark.parametrize("override", BY_PATH)
def test_a_class_of_every_family_runs_by_its_path(override: str, own: Path) -> None:
    scenario = read(override)
    check(plan(scenario).blocks)
    (block,) = plan(scenario).blocks
    (record,) = run_block(block)
    parts = [*record.config.values(), *record.config["algorithm"].values()]
    (kind,) = [part["kind"] for part in parts if isinstance(part, dict) and ":" in part.get("kind", "")]
    assert kind in override
    again = pickle.loads(pickle.dumps(block))  # as a worker gets it
    assert again == block
    assert run_block(again)[0].numbers() == record.numbers()


def test_the_same_rule_gives_the_same_numbers_inside_and_outside(own: Path) -> None:
    """Of an odd number of rows the median is one of them, whoever looks for it."""
    kinds = ("median", "own_plugins:Middle", "own_plugins:Again")
    runs = [ran(f"algorithm={{name: m, pruner: none, aggregator: '{kind}'}}") for kind in kinds]
    one, *others = [[(r.test_accuracy, r.test_loss, r.step_norm) for r in run.rounds] for run in runs]
    assert others == [one, one]
    assert len({run.cell for run in runs}) == 3


def test_an_attack_does_what_its_class_says(own: Path) -> None:
    """All clients flipped by 1: the first step is the honest one, backwards."""
    whole = "attack={kind: 'own_plugins:Flip', scope: 1}"
    honest, flipped = ran("cohort=4", "rounds=1"), ran("cohort=4", "rounds=1", whole)
    assert flipped.rounds[0].step_norm == honest.rounds[0].step_norm
    assert flipped.rounds[0].test_loss > honest.rounds[0].test_loss
    assert flipped.malicious_clients == [0, 1, 2, 3]


def test_options_are_judged_as_those_of_built_ins_are(own: Path) -> None:
    def said(*overrides: str) -> str:
        with pytest.raises(InputError) as error:
            read(*overrides)
        return str(error.value).partition(": attack")[2] or str(error.value)

    flip = "attack={kind: 'own_plugins:Flip', "
    assert said(flip + "factor: -1}") == ".factor = -1: should be greater than 0 (how much)"
    assert said(flip + "scope: 7}").startswith(".scope = 7: should be less than or equal to 1")
    assert said(flip + "factor: '2'}") == ".factor = '2': should be a number; write 2 without quotes"
    assert "unknown key 'facter' in attack; did you mean 'factor'? allowed: clients, explorers, factor, kind" in said(
        flip + "facter: 2}"
    )
    assert said("attack=own_plugins:Flop").startswith(
        ".kind = 'own_plugins:Flop': own_plugins has no 'Flop'; did you mean 'Flip'?"
    )
    assert "put its folder on PYTHONPATH" in said("attack=own_plugin:Flip")
    assert "should be package.module:Class" in said("attack=own-plugins:Flip")
    assert "unknown kind 'own_plugins'" in said("attack=own_plugins")
    text = "attack:\n  kind: own_plugins:Flip\n  factor: 0\n"
    with pytest.raises(InputError, match=r"^s\.yaml:3: attack\.factor = 0: should be greater than 0"):
        resolve(Document.parse(text, "s.yaml"))


UNFIT = {
    "attack=own_plugins:Unwritten": "Unwritten is abstract: it lacks updates",
    "attack=own_plugins:Nothing": "Nothing changes nothing; derive it from DataAttack or UpdateAttack",
    "attack=own_plugins:Half": "Half is no attack: it is no subclass of autoflip_secure.interfaces.Attack",
    "attack=own_plugins:GaussianNoise": "is the built-in gaussian_noise; write 'gaussian_noise' instead",
    "attack=own_plugins:function": "is a function, expected a class",
    "attack=own_plugins:Loose": "Loose changes model_config",
    "attack=own_plugins:Odd": "its default of size is not valid (Input should be a valid integer",
    "algorithm={name: m, pruner: none, aggregator: 'own_plugins:LikeMean'}": "LikeMean has linear = True",
}


@pytest.mark.parametrize("override", UNFIT)
def test_a_class_that_cannot_be_a_plug_in_is_refused(override: str, own: Path) -> None:
    with pytest.raises(InputError) as error:
        read(override)
    assert UNFIT[override] in str(error.value)


def test_a_name_of_this_package_means_its_own_code(own: Path) -> None:
    with pytest.raises(
        InputError, match=r"algorithm\.name = autoflip: is an algorithm of this package, and its pruner"
    ):
        read("algorithm={name: autoflip, pruner: 'own_plugins:Half'}")


def test_the_report_does_not_vouch_for_attacks_that_it_does_not_know(own: Path) -> None:
    def caveats(attack: str) -> str:
        found = study([ran(f"attack={attack}", f"algorithm={name}") for name in ("fedavg", "median")])
        return " ".join(opening(found, compare(found), {}, 0).caveats)

    fixed = "none of them adapts to the defence it meets"
    assert "Flip: not of this package" in caveats("own_plugins:Flip")
    assert fixed not in caveats("own_plugins:Flip")
    assert fixed in caveats("label_flip")


def test_shares_and_proofs_are_those_of_built_ins(own: Path) -> None:
    with pytest.raises(InputError, match=r"'own_plugins:Middle' needs every client's update, which a secure sum hides"):
        read("algorithm={name: m, pruner: none, aggregator: 'own_plugins:Middle'}", "secure_sum={updates: true}")
    quiet = "privacy={{kind: '{}', noise_multiplier: 1, noise: distributed, allow_unproven: {}}}"
    with pytest.raises(InputError, match=r"no guarantee: the mechanism 'own_plugins:Quiet' is not of this package"):
        check(plan(read(quiet.format("own_plugins:Quiet", "false"))).blocks)
    record = ran(quiet.format("own_plugins:Quiet", "true"))
    assert record.privacy is not None
    assert [bound(guarantee) for guarantee in record.privacy.guarantees] == [None] * 3
    ours = ran(quiet.format("client_level", "false"))
    assert ours.privacy is not None
    assert any(bound(guarantee) for guarantee in ours.privacy.guarantees)


# ------------------------------------------------------------------------------------------------ entry points


@pytest.fixture
def installed_example(site: Path) -> Iterator[Path]:
    yield example(site)
    forget_example()


def forget_example() -> None:
    """As in a new process."""
    for name in [name for name in sys.modules if name.split(".")[0] == "autoflip_example"]:
        del sys.modules[name]


def test_the_example_is_found_swept_resumed_and_gated(
    installed_example: Path, here: Callable[..., Result], tmp_path: Path
) -> None:
    listed = here("list", "attacks")
    assert "sign_flip" in listed.output
    assert "Malicious clients send their update with its sign flipped. (of autoflip-example 0.1.0)" in flat(listed)
    assert "factor: 1.0  (c, times the honest update's length)" in flat(listed)
    attack = "sweep.attack=[{kind: sign_flip, factor: 4, scope: 0.25}]"
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
    assert "source of attack.kind sign_flip (autoflip_example.attack:SignFlip) and what it imports: sha256" in (
        refused.output
    )
    for path in installed_example.glob("*.dist-info/entry_points.txt"):
        path.unlink()
    assert here(*base).exit_code in (0, 2), "what is finished can be read without the plug-ins"


def test_the_schema_knows_what_is_installed(installed_example: Path) -> None:
    schema = json.dumps(json_schema())
    assert "times the honest update's length" in schema
    assert '"sign_flip"' in schema
    assert '"norm_weighted"' in schema


def test_the_fixture_runs_plug_ins(installed_example: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SMALL)
    results = Robustness(tmp_path, tmp_path / "cache")(
        "s.yaml", attack={"kind": "sign_flip", "factor": 9, "scope": 0.5}
    )
    assert 0 <= results.accuracy(attack="sign_flip").mean <= 1
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


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_plug_in_is_named_and_in_nobodys_way(
    kind: str, own: Path, site: Path, here: Callable[..., Result], said: list[str]
) -> None:
    target, source, why = DAMAGED[kind]
    module = f"rival_{list(DAMAGED).index(kind)}"
    distribution(
        site, "rival-tools", {kind: target.replace("rival:", f"{module}:")}, {module: source} if source else {}
    )
    why = why.replace("rival has", f"{module} has")
    assert ran("attack=label_flip").config["attack"]["share"] == 0.3
    heard = said.copy()
    listed = here("list", "damaged plug-ins")
    assert listed.exit_code == 0, listed.output
    assert f"{kind} of rival-tools 1.0" in listed.output
    assert why in flat(listed)
    assert here("list", "attacks").exit_code == 0
    json_schema()
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


def test_two_distributions_with_one_kind(own: Path, site: Path, here: Callable[..., Result]) -> None:
    distribution(site, "first-tools", {"twice": "first_tools:Flip"}, {"first_tools": FLIP})
    distribution(site, "other-tools", {"twice": "other_tools:Flip"}, {"other_tools": FLIP})
    with pytest.raises(InputError, match=r"first-tools 1\.0 and other-tools 1\.0 all offer it; write one"):
        read("attack=twice")
    assert ran("attack=first_tools:Flip").config["attack"]["kind"] == "first_tools:Flip"
    assert "twice of first-tools 1.0" in here("list", "damaged plug-ins").output


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
