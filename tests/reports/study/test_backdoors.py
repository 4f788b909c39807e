"""Backdoors in the report: a section where there is one and nowhere else, its table, and the columns of the frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autoflip_secure.records.backdoor import BackdoorRecord, TriggerSurvival
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.backdoor import against_density, over_rounds
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.gate.metrics import METRICS
from autoflip_secure.reports.pages.backdoors import backdoors
from autoflip_secure.reports.pages.report import render
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.backdoors import Planted
from autoflip_secure.reports.study.study import Condition, study
from autoflip_secure.reports.tables.frames import tidy
from autoflip_secure.reports.wording.backdoors import success_sentences

Make = Callable[..., RunRecord]
SURVIVAL = TriggerSurvival(layer="dense1", neurons=13, kept=0.5, kept_reading=0.25, kept_overall=0.4)


@pytest.fixture(scope="module")
def runs(record: Make, partition: dict[str, Any]) -> list[RunRecord]:
    """Two algorithms, two seeds, with a backdoor in the first half and with one of no strength."""
    found = []
    for share in (0.3, 0.0):
        attack = {
            "kind": "backdoor", "scope": 0.2, "clients": None, "share": share, "target": 4,
            "window": {"first": 1, "last": 5},
        }  # fmt: skip
        for name in ("fedavg", "autoflip"):
            for seed in (0, 1):
                one = record(name, partition["iid"], attack, seed, rounds=10)
                height = share * (2 + seed) / (1 if name == "fedavg" else 2)
                rounds = [
                    e.model_copy(update={"attack_success": height if e.round <= 6 + seed else height / 2})
                    for e in one.rounds
                ]
                survival = SURVIVAL if name == "autoflip" else None
                update = {"rounds": rounds, "backdoor": BackdoorRecord(target=4, samples=9, survival=survival)}
                found.append(one.model_copy(update=update | {"malicious_clients": [1] if share else []}))
    return found


def test_the_table_by_hand(runs: list[RunRecord]) -> None:
    found = backdoors(study(runs, OutcomeRule(1)))
    assert found.table.columns == [
        "attack success (%)", "accuracy (%)", "trigger's neurons kept (%)", "weights on the trigger kept (%)",
        "first layer kept (%)", "durability (rounds)",
    ]  # fmt: skip
    lines = {(line.row.algorithm, line.row.condition.attack): line.cells for line in found.table.lines}
    own = lines["FedAvg", "backdoor to class 4 on 20 %"]
    assert own[0] is not None
    assert own[0].value == "37.5"  # of 0.3 and 0.45, halves of 0.6 and 0.9
    assert own[2] is None, "nothing is pruned"
    assert own[5] is not None
    assert (own[5].value, own[5].interval) == ("2.5", "(2 to 3, 2 seeds)")  # rounds 7 and 8, after round 5
    pruned = lines["AutoFLIP", "backdoor to class 4 on 20 %"]
    assert [cell.value for cell in pruned[2:5] if cell] == ["50.0", "25.0", "40.0"]
    assert pruned[5] is not None
    assert pruned[5].value == "0", "it never was above one half"
    assert lines["FedAvg", "no attack"][5] is None
    assert found.said[0].startswith("FedAvg, IID, backdoor to class 4 on 20 %: the trigger sends 37.5 %")
    assert len(found.said) == 2
    values = {(row[2], row[3]): row[4] for row in found.data.rows if row[1] != "no attack"}
    assert values["FedAvg", "attack success"] == pytest.approx(0.375)
    assert values["AutoFLIP", "weights on the trigger kept"] == 0.25


def test_the_interval_of_the_most_success_is_corrected_for_the_choice(record: Make, partition: dict[str, Any]) -> None:
    """Eight conditions alike: the plain t interval at the largest of their means misses the truth twice as often."""
    draws, level = np.random.default_rng(3), Interval(0.9, 0.8, 1.0, 5)
    covered = np.zeros(2)
    for _ in range(200):
        rows = [
            Planted(
                Condition("IID", f"attack {n}"), "A", mean_interval(values), level, (), None, None, None,
                dict(enumerate(values)),
            )
            for n, values in enumerate((0.5 + 0.05 * draws.normal(size=(8, 5))).tolist())
        ]  # fmt: skip
        (said,) = success_sentences(rows)
        low, high = (float(end) for end in re.findall(r"\[(.+), (.+)\]", said)[0])
        plain = max((row.success for row in rows if row.success), key=lambda one: one.mean)
        assert f"sends {100 * plain.mean:.1f} %" in said
        covered += low <= 50 <= high, (plain.low or 0) <= 0.5 <= (plain.high or 0)
    assert "the most of 8 conditions (the interval is corrected for the choice)" in said
    assert covered[0] >= 0.92 * 200
    assert covered[1] < 0.92 * 200


def test_frames_and_gate_have_the_numbers_where_there_is_a_backdoor(runs: list[RunRecord], small: list[RunRecord]):
    frame = tidy(runs, OutcomeRule(1))
    first = frame[frame["cell"] == runs[0].cell]
    assert first["attack_success"].tolist() == [e.attack_success for e in runs[0].rounds]
    assert {*first["outcome_attack_success"]} == {0.3}
    assert {*first["durability_rounds"]} == {2}
    assert {*first["rounds_after_window"]} == {5}
    assert np.isnan(first["trigger_weights_kept"]).all()
    assert {*frame[frame["cell"] == runs[2].cell]["trigger_weights_kept"]} == {0.25}
    assert not {"attack_success", "outcome_attack_success"} & {*tidy(small[:1]).columns}
    metric = METRICS["attack_success"].read
    assert metric is not None
    assert metric(runs[0], OutcomeRule(1)) == 0.3
    assert metric(small[0], OutcomeRule(1)) is None


def test_figures_show_success_beside_accuracy_and_density(runs: list[RunRecord], small: list[RunRecord]) -> None:
    found = study(runs, OutcomeRule(1))
    with drawing():
        rounds, density = over_rounds(found, Palette(found)), against_density(found, Palette(found))
        assert over_rounds(study(small[:8]), Palette(study(small[:8]))) is None
        only = study(runs[:2])
        assert against_density(only, Palette(only)) is None, "nothing is pruned"
    assert rounds is not None
    row = next(r for r in rounds.table.rows if r[1:5] == ["backdoor to class 4 on 20 %", "FedAvg", "attack success", 7])
    assert row[5] == pytest.approx(100 * (0.3 + 0.9) / 2)
    assert density is not None
    own = next(r for r in density.table.rows if r[1:3] == ["backdoor to class 4 on 20 %", "AutoFLIP"])
    assert own[3] == pytest.approx(100 * np.mean([run.rounds[-1].density for run in runs[2:4]]))
    assert own[4] == pytest.approx(18.75)


@pytest.mark.slow
def test_the_section_is_there_with_a_backdoor_and_not_without(
    runs: list[RunRecord], small: list[RunRecord], scenario: dict[str, Any]
) -> None:
    page = render(runs, scenario)
    assert 'id="backdoors"' in page
    assert 'id="backdoor-table"' in page
    assert 'id="backdoors"' not in render(small[:8], scenario)
