"""Plug-ins by their path: offered, run, judged and refused as those of this package are."""

import pickle
from pathlib import Path

import pytest
from outside_plugins import ran, read

from autoflip_secure.errors import InputError
from autoflip_secure.records.proven import bound
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.wording.verdict import opening
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.plugin_families import FAMILIES, survey
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check


def test_every_family_is_offered_and_nothing_else() -> None:
    of_a_cell = {
        "attack",
        "aggregator",
        "pre_aggregator",
        "pruner",
        "local_rule",
        "data",
        "partition",
        "model",
        "privacy",
    }
    assert set(FAMILIES) == {*of_a_cell, "tracker"}
    assert survey().good == ()
    assert survey().damaged == {}


BY_PATH = [
    "attack={kind: 'own_plugins:Flip', factor: 3, scope: 0.5}",
    "attack=own_plugins:Shift",
    "algorithm={name: mine, pruner: none, aggregator: 'own_plugins:Middle'}",
    "algorithm={name: mine, pruner: 'own_plugins:Half', aggregator: mean}",
    "algorithm={name: mine, pruner: none, aggregator: mean, local_rule: {kind: 'own_plugins:Signs', size: 0.02}}",
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
    "attack=own_plugins:Nothing": "Nothing changes nothing; derive it from DataAttack, UpdateAttack, RowAttack",
    "algorithm={name: m, pruner: none, aggregator: mean, local_rule: 'own_plugins:Idle'}": "Idle changes nothing;",
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


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (
            "Unordered",
            "its option layers is or holds a set, which every process writes in another order; make it a tuple",
        ),
        ("Drawn", "its defaults are others each time it is made; give it fixed ones"),
    ],
)
def test_options_that_no_other_process_would_write_alike_are_refused(kind: str, why: str, own: Path) -> None:
    with pytest.raises(InputError, match=rf"^--set .*attack\.kind = 'own_plugins:{kind}': {why}"):
        read(f"attack=own_plugins:{kind}")


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
