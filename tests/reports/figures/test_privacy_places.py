"""Where runs stand on an axis of epsilon: at what is proven of them, apart from whom something else is proven of."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.records.privacy import ClientEpsilon, Guarantee, Observer, PrivacyRecord
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.privacy import across_label, ticks, utility
from autoflip_secure.reports.figures.releases import costs, over_rounds
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.study.privacy import right_guesses
from autoflip_secure.reports.study.privacy_groups import Place, groups, places, sentences
from autoflip_secure.reports.study.settings import settings
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.guarantees import guarantee_table
from autoflip_secure.reports.tables.text import Upper, exact, value

Make = Callable[..., RunRecord]
CENTRAL = {"kind": "client_level", "noise": "central", "target_epsilon": 8.0, "allow_unproven": True}


def ledger(server: float | None, public: float | None, delta: float = 0.005) -> PrivacyRecord:
    found: dict[Observer, float | None] = {"server": server, "public": public}
    own = {
        o: ClientEpsilon(client=None, delta=delta, rdp=epsilon, prv=None, training=1) for o, epsilon in found.items()
    }
    guarantees = [
        Guarantee(
            observer=observer, relation="zero out one client", proven=epsilon is not None, reason="why", releases=[],
            clients=[] if epsilon is None else [own[observer]],
            over_rounds=[] if epsilon is None else [(0, 1.0), (2, epsilon)],
        )
        for observer, epsilon in found.items()
    ]  # fmt: skip
    return PrivacyRecord(unit="client", noise_multipliers=[1.0], guarantees=guarantees, attempts=1, notes=[])


@pytest.fixture
def made(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> Callable[..., list[RunRecord]]:
    """(algorithm -> ledger of each seed) -> runs of one private setting, and the same without privacy."""

    def make(ledgers: dict[str, list[PrivacyRecord]], privacy: dict[str, Any] = CENTRAL) -> list[RunRecord]:
        found = []
        for name, own in ledgers.items():
            for seed, one in enumerate(own):
                run = record(name, partition["iid"], attack["clean"](), seed, rounds=2, privacy=privacy)
                bare = record(name, partition["iid"], attack["clean"](), seed, rounds=2, privacy={"kind": "none"})
                found += [run.model_copy(update={"privacy": one}), bare]
        return found

    return make


def along(runs: list[RunRecord]) -> list[Place]:
    found = study(runs)
    (group,) = groups(found)
    return places(found, group)


def test_runs_without_a_proof_do_not_stand_at_the_epsilon_of_others(made: Callable[..., list[RunRecord]]) -> None:
    """One setting, FedAvg proven, AutoFLIP not: two places, and the data of the figure say so."""
    runs = made({"fedavg": [ledger(None, 6.4)] * 2, "autoflip": [ledger(None, None)] * 2})
    proven, none, bare = along(runs)
    assert [p.tick for p in (proven, none, bare)] == ["6.40", "no\nguarantee", "∞"]
    assert proven.cells == {r.cell for r in runs if r.algorithm == "fedavg" and r.privacy}
    assert none.cells == {r.cell for r in runs if r.algorithm == "autoflip" and r.privacy}
    found = study(runs)
    with drawing():
        picture = utility(found, Palette(found))
    assert picture is not None
    told = {(row[2], row[3], row[4]) for row in picture.table.rows}
    assert told == {
        ("FedAvg", "proven", 6.4), ("AutoFLIP", "no guarantee", None),
        ("FedAvg", "no privacy", None), ("AutoFLIP", "no privacy", None),
    }  # fmt: skip
    assert "at ε ≤ 6.40" in sentences(found)[0]
    assert "with noise but no guarantee" in sentences(found)[0]


def test_what_is_proven_of_one_algorithm_is_not_said_of_another(made: Callable[..., list[RunRecord]]) -> None:
    """8.9 against 108: apart. 8.9 and 9.1: one place, under the larger number."""
    far = along(made({"fedavg": [ledger(8.9, 8.9)], "autoflip": [ledger(108.0, 108.0)]}))
    assert [p.tick for p in far] == ["8.90", "108", "∞"]
    near = along(made({"fedavg": [ledger(8.9, 8.9)], "autoflip": [ledger(9.0999, 9.0)]}))
    assert [p.tick for p in near] == ["9.10", "∞"]


@given(st.lists(st.floats(0.01, 500), min_size=1, max_size=4), st.lists(st.floats(0.01, 500), min_size=1, max_size=4))
def test_every_run_stands_at_a_number_that_holds_for_it(one: list[float], two: list[float]) -> None:
    by_cell = {f"{name}{i}": e for name, own in (("a", one), ("b", two)) for i, e in enumerate(own)}
    for place in along(_bare(one, two)):
        for cell in place.cells & set(by_cell):
            assert float(place.tick) >= by_cell[cell]


def _bare(one: list[float], two: list[float]) -> list[RunRecord]:
    """Runs of two algorithms, as few fields as a study reads."""
    found = []
    for name, label, own in (("a", "fedavg", one), ("b", "autoflip", two)):
        for seed, epsilon in enumerate(own):
            config = {"algorithm": {"name": label}, "partition": {"kind": "iid"}, "privacy": CENTRAL, "seed": seed}
            found.append(
                RunRecord.model_construct(
                    cell=f"{name}{seed}", config=config, axes={}, algorithm=label, seed=seed, final_accuracy=0.5,
                    exploration=None, privacy=ledger(epsilon, epsilon), layers=[], rounds=[],
                )
            )  # fmt: skip
    return found


def test_observers_are_named_at_the_axis_or_at_each_tick(made: Callable[..., list[RunRecord]]) -> None:
    alone = along(made({"fedavg": [ledger(None, 6.4)]}))
    assert across_label(alone) == "proven epsilon against the public\nzero out one client, δ = 0.005"
    assert ticks(alone) == ["6.40", "∞"]
    both = along(made({"fedavg": [ledger(None, 6.4)], "autoflip": [ledger(60.0, 60.0)]}))
    assert ticks(both) == ["6.40\npublic", "60.00\nserver", "∞"]
    assert across_label(both) == "proven epsilon\nzero out one client, δ = 0.005"


def test_for_a_setting_stands_the_run_of_which_least_is_proven(made: Callable[..., list[RunRecord]]) -> None:
    """Not the one with the lowest seed: its number would be too small for the others."""
    found = study(made({"fedavg": [ledger(2.0, 2.0, 0.001), ledger(2.5, 2.5), ledger(2.25, 2.25, 0.006)]}))
    assert [run.seed for _, runs in settings(found) for run in runs] == [1, 2, 0]
    with drawing():
        bars, curves = costs(found), over_rounds(found)
    assert bars is not None
    assert curves is not None
    assert [row[-1] for row in bars.table.rows] == [2.5]
    assert [row[3] for row in bars.table.rows] == [0.006]
    assert [(row[4], row[5]) for row in curves.table.rows] == [(0, 1.0), (2, 2.5)]
    server, public = guarantee_table(found).rows
    assert server[1:7] == [3, "target ε 8", "the server", 2.5, 0.006, "zero out one client"]
    assert public[3] == "the public"
    replaced = [ledger(2.0, 2.0), *(ledger(1.0, 1.0) for _ in range(2))]
    other = replaced[0].model_copy(
        update={"guarantees": [g.model_copy(update={"relation": "replace one client"}) for g in replaced[0].guarantees]}
    )
    for row in guarantee_table(study(made({"fedavg": [other, *replaced[1:]]}))).rows:  # a bound is not all runs' own
        assert (row[1], row[4], row[6]) in [(1, 2.0, "replace one client"), (2, 1.0, "zero out one client")]
    some = study(made({"fedavg": [ledger(2.0, 2.0), ledger(None, None)]}))
    with drawing():
        assert costs(some) is None
    assert [row[4] for row in guarantee_table(some).rows] == ["no guarantee", "no guarantee"]


def test_settings_without_a_guarantee_are_named_beside_the_figure(made: Callable[..., list[RunRecord]]) -> None:
    found = study(made({"fedavg": [ledger(2.0, 2.0)], "autoflip": [ledger(None, None)]}))
    with drawing():
        for picture in (costs(found), over_rounds(found)):
            assert picture is not None
            assert any(note.startswith("No guarantee, so nothing to draw: AutoFLIP") for note in picture.notes)


@given(st.floats(1e-9, 1e6))
def test_cells_of_tables_are_rounded_up_on_the_page_and_exact_in_the_csv(bound: float) -> None:
    assert float(value(Upper(bound))) >= bound
    assert exact(Upper(bound)) == repr(bound)


@given(st.floats(0, 20))
def test_guesses_that_epsilon_allows(epsilon: float) -> None:
    """The best test between neighbours that differ by e^epsilon everywhere is right in a share e^eps / (1 + e^eps)."""
    share = 1 / (1 + 2.718281828459045**-epsilon)
    assert 100 * share <= right_guesses(epsilon) + 1e-6
    assert right_guesses(epsilon) < 100 * share + 1


def test_who_ran_without_privacy_only_has_no_price(made: Callable[..., list[RunRecord]]) -> None:
    """AutoFLIP's private runs are missing: its accuracy without privacy says nothing of what privacy costs."""
    runs = made({"fedavg": [ledger(6.4, 6.4)] * 2, "autoflip": [ledger(6.4, 6.4)] * 2})
    both = sentences(study(runs))[0]
    assert "AutoFLIP" in both
    left = [run for run in runs if run.algorithm == "fedavg" or run.privacy is None]
    assert "FedAvg" in sentences(study(left))[0]
    assert "AutoFLIP" not in sentences(study(left))[0]


def test_curves_that_would_hide_each_other_are_one(made: Callable[..., list[RunRecord]]) -> None:
    found = study(
        made({"fedavg": [ledger(None, 6.4)], "autoflip": [ledger(None, 6.4)], "autoflip_plus": [ledger(None, 7.0)]})
    )
    with drawing():
        picture = over_rounds(found)
    assert picture is not None
    said = " ".join(re.findall(r">([^<>]+)</text>", picture.markup))
    assert said.count("(zero out one client)") == 2  # curves in the legend, of three settings
    assert said.count("and 1 setting more") == 1
