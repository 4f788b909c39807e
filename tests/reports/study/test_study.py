"""Records sorted into algorithms and conditions; curves found in attack configurations."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import leaves
from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.study import Condition, study
from autoflip_secure.reports.study.sweep_curves import curves

Make = Callable[..., RunRecord]
Sweep = Callable[..., list[RunRecord]]


def test_order_and_labels(sweep: Sweep):
    found = study(sweep(seeds=1)[::-1])
    assert found.algorithms[:3] == ["FedAvg", "AutoFLIP", "AutoFLIP plus"]
    assert list(found.facets) == ["IID", "Dirichlet 0.3", "2 classes per client"]
    assert next(iter(found.attacks)) == "no attack"
    assert "noise σ 0.5 on 20 %" in found.attacks
    assert "30 % labels flipped on 20 %" in found.attacks
    assert found.baseline == "FedAvg"
    assert found.headline == ["AutoFLIP", "AutoFLIP plus"]


def test_values_are_the_outcomes_of_the_records(small: list[RunRecord]):
    found = study(small)
    for condition in found.conditions:
        for algorithm in found.algorithms:
            expected = {
                r.seed: DEFAULT.accuracy(r)
                for r in small
                if labels.pretty(r.algorithm) == algorithm
                and labels.partition_label(r.config["partition"]) == condition.facet
                and labels.attack_label(r.config["attack"]) == condition.attack
            }
            assert found.values(condition, algorithm) == expected
            assert [r.seed for r in found.runs(condition, algorithm)] == sorted(expected)


def test_a_newer_key_is_compared_with_its_default_where_it_is_left_out(record: Make, partition: dict[str, Any]):
    cells = [
        record("fedavg", partition["iid"], {"kind": "none"}, 0, **more)
        for more in ({}, {"server_momentum": 0.9}, {"server_momentum": 0.0})
    ]
    found = study(cells)
    assert list(found.facets) == ["server momentum 0", "server momentum 0.9"]
    assert [leaves(facet)["server_momentum"] for facet in found.facets.values()] == [0.0, 0.9]
    assert found.duplicates == 1


def test_zero_strength_is_no_attack(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [
        record("fedavg", partition["iid"], attack["noise"](0.0), 0),
        record("fedavg", partition["iid"], attack["noise"](0.5, 0.0), 1),
        record("fedavg", partition["iid"], attack["clean"](), 2),
    ]
    found = study(cells)
    assert list(found.attacks) == ["no attack"]
    assert set(found.values(Condition("IID", "no attack"), "FedAvg")) == {0, 1, 2}
    named = attack["noise"](0.5, 0.0) | {"clients": [3]}
    assert labels.attack_label(named) == "noise σ 0.5 on 1 chosen client"


def test_settings_of_one_algorithm_become_variants(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [record("fedavg", partition["iid"], attack["clean"](), 0)]
    cells += [record("autoflip", partition["iid"], attack["clean"](), 0, threshold=t) for t in (0.5, 0.1, 0.3)]
    found = study(cells)
    assert found.algorithms == ["FedAvg", "AutoFLIP · T_p 0.1", "AutoFLIP · T_p 0.3", "AutoFLIP · T_p 0.5"]
    assert found.headline == ["AutoFLIP · T_p 0.3"]


def test_exploration_divides_only_those_that_explore(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [
        record(name, partition["iid"], attack["clean"](), 0, exploration={"explorers": n})
        for n in (2, 10)
        for name in ("fedavg", "autoflip")
    ]
    found = study(cells)
    assert found.algorithms == ["FedAvg", "AutoFLIP · explorers 2", "AutoFLIP · explorers 10"]
    assert found.duplicates == 1  # the second FedAvg repeats the first


def test_other_differences_name_the_facets(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [
        record("fedavg", partition["iid"], attack["clean"](), 0, model={"kind": kind}, cohort=cohort)
        for kind in ("cnn", "mlp")
        for cohort in (5, 10)
    ]
    assert set(study(cells).facets) == {f"model {m} · cohort {c}" for m in ("cnn", "mlp") for c in (5, 10)}


def test_no_record_is_an_input_error():
    with pytest.raises(InputError, match="run the sweep first"):
        study([])


def test_curves_of_the_paper(sweep: Sweep, partition: dict[str, Any], attack: dict[str, Any]):
    attacks = [attack["clean"]()]
    attacks += [attack["noise"](s, c) for s in (0.1, 0.5) for c in (0.1, 0.2, 0.3)]
    attacks += [attack["flip"](0.3)]
    found = curves(study(sweep(("fedavg",), (partition["iid"],), attacks, 1)))
    assert [(c.kind, c.parameter, c.fixed) for c in found] == [
        ("gaussian_noise", "scope", "σ 0.1"),
        ("gaussian_noise", "scope", "σ 0.5"),
    ]  # sigma has two levels only, its points lie on these curves; one flip level makes no curve
    assert [x for x, _ in found[0].levels] == [0.1, 0.2, 0.3]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), min_size=1), min_size=1))
def test_different_configurations_get_different_labels(configs: list[dict[str, int]]):
    found = labels.label_all(configs, lambda _: "same words")
    assert len(set(found.values())) == len({canonical(c) for c in configs})


@given(st.text())
def test_clean_text_is_one_printable_line(text: str):
    cleaned = labels.clean_text(text)
    assert cleaned.isprintable()
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned


def test_hardest_where_a_facet_was_never_attacked(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [
        record("fedavg", partition["iid"], attack["clean"](), 0),
        record("fedavg", partition["dirichlet"], attack["clean"](), 0),
        record("fedavg", partition["dirichlet"], attack["noise"](0.5), 0),
    ]
    found = study(cells)
    assert found.hardest("IID", "gaussian_noise") is None
    assert found.hardest("Dirichlet 0.3", "gaussian_noise") == Condition("Dirichlet 0.3", "noise σ 0.5 on 20 %")
    assert found.hardest("Dirichlet 0.3", "label_flip") is None
