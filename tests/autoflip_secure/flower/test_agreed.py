"""What a federation over Flower is made of, and what is refused; none of it needs Flower."""

import sys
from typing import Any

import pytest
import torch
from small import SCENARIO, agreed

import autoflip_secure.flower
from autoflip_secure.errors import InputError
from autoflip_secure.flower import Federation
from autoflip_secure.scenarios.config.algorithms import ALGORITHMS


def test_every_algorithm_runs_or_is_refused_with_the_reason() -> None:
    refused = dict[str, str]()
    for algorithm in ALGORITHMS:
        try:
            agreed(algorithm=algorithm, evaluation="personal" if algorithm in ("fedmask", "spafl") else "global")
        except InputError as error:
            refused[algorithm] = str(error)
    own = {"lotteryfl", "subfedavg", "fedspa", "feddst", "fedsgc", "fedpm", "fedmask", "prunefl", "fltrust", "spafl"}
    assert set(refused) == own | {"nbafl", "ppflex"}
    assert all("; use " in said or "; set " in said for said in refused.values())


def test_a_scenario_that_is_more_than_one_run_is_refused() -> None:
    with pytest.raises(InputError, match="comes to 2 different runs"):
        agreed(sweep={"product": {"algorithm": ["fedavg", "median"]}})
    assert agreed(seeds=[5, 6]).seed == 5
    other = Federation.of({**SCENARIO, "algorithm": "fedavg"}, seed=8)
    assert (other.seed, other.spec.key) == (8, agreed(algorithm="fedavg", seeds=[8]).spec.key)
    assert not torch.equal(other.kit.initial, agreed(algorithm="fedavg").kit.initial)
    with pytest.raises(InputError, match="give a whole number from 0"):
        Federation.of(SCENARIO, seed=-1)
    with pytest.raises(InputError, match="give sample and classes >= 1 together"):
        Federation.of({"algorithm": "fedavg"}, classes=10)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privacy": "client_level"}, "privacy = 'client_level': what the ledger proves is about"),
        ({"privacy": "sample_level"}, "nothing is proven of this transport"),
        ({"secure_sum": {"parties": 2}, "exploration": {"method": "linear"}}, "autoflip-secure party"),
        ({"algorithm": "autoflip", "exploration": {"upload_bits": 16}}, "carry deviations whole, in single precision"),
        ({"attack": "backdoor"}, "attack = 'backdoor'"),
        ({"attack": "fang"}, "attack = 'fang'"),
        ({"attack": "over_participation"}, "attack = 'over_participation'"),
        ({"evaluation": "personal"}, "evaluation = 'personal'"),
    ],
    ids=str,
)  # fmt: skip
def test_what_flower_cannot_give_is_refused_with_the_reason(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        agreed(**changes)
    assert said in str(error.value)
    assert str(error.value).startswith("Federation.of: ")


@pytest.mark.parametrize("name", ["AutoflipStrategy", "client_app"])
def test_without_flower_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)
    monkeypatch.setitem(sys.modules, "flwr.app", None)
    with pytest.raises(InputError, match=r"pip install 'autoflip-secure\[flower\]'"):
        getattr(autoflip_secure.flower, name)
    with pytest.raises(AttributeError, match="has no attribute 'anything'"):
        _ = autoflip_secure.flower.anything


def test_the_digest_is_of_what_both_sides_need_and_of_nothing_else() -> None:
    known = agreed().digest
    others = [{"rounds": 4}, {"algorithm": "median"}, {"seeds": [4]}, {"model": {"kind": "mlp", "hidden": [13]}},
              {"training": {"lr": 0.1}}]  # fmt: skip
    assert len({known, *(agreed(**changes).digest for changes in others)}) == 6
    for changes in ({"attack": "label_flip"}, {"trainer": "sequential"}, {"evaluate_every": 2}):
        assert agreed(**changes).digest == known
