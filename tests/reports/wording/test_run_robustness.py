"""What a report says of trust, majorities and recovery: in sentences with their numbers, and beside the run."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from read_page import Page

from autoflip_secure.records.final_model import ClassAccuracies
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.report import render
from autoflip_secure.reports.study.clean_twins import Recovery
from autoflip_secure.reports.study.run_robustness import Majorities, Majority, Row, rows
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.wording.run_robustness import alarms, majorities, recovered, trust

Make = Callable[..., RunRecord]
WINDOW = {"window": {"first": 1, "last": 2}}


@pytest.fixture(scope="module")
def runs(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> list[RunRecord]:
    """Three seeds; AutoFLIP trusts one malicious participant of five with half of everything, FedAvg everybody."""
    found = []
    for seed in range(3):
        for name, share in (("fedavg", 0.2), ("autoflip", 0.5 + 0.01 * seed)):
            run = record(name, partition["iid"], attack["noise"](0.5) | WINDOW, seed, rounds=4)
            change = {"malicious": [True, *[False] * 4], "trust": [share, *[(1 - share) / 4] * 4]}
            entries = [entry.model_copy(update=change) for entry in run.rounds]
            classes = ClassAccuracies(samples=[5, 5], accuracy=[0.8, 0.1 * seed])
            found.append(run.model_copy(update={"rounds": entries, "classes": classes}))
            found.append(record(name, partition["iid"], attack["clean"](), seed, rounds=4))
    return found


def test_an_alarm_is_said_beside_the_run_and_on_the_first_screen(runs: list[RunRecord]):
    (said,) = alarms(rows(study(runs)))
    assert said == (
        "Alarm: AutoFLIP works for the attackers. Under IID, noise σ 0.5 on 20 % malicious clients hold "
        "2.55 [2.43, 2.67] times the trust of their share of the updates (3 seeds)."
    )
    assert trust(rows(study(runs))) == []
    page = Page(render(runs, {"name": "x"}, figures=False))
    table = page.tables["beyond-accuracy"]
    head, lines = [one.strip() for one in table[0]], {row[0].strip(): row[1:] for row in table[1:]}
    assert len(lines) == 4
    place = "AutoFLIP IID, noise σ 0.5 on 20\u00a0% O·UE·A·–"
    cell = lines[place][head.index("trust amplification") - 1]
    assert cell.split() == ["2.55", "alarm", "[2.43,", "2.67]the", "aggregator", "works", "for", "the", "attackers"]
    assert [place for place, row in lines.items() if any("alarm" in one for one in row)] == [place]
    assert lines[place][head.index("worst class (%)") - 1].split()[0] == "10.0"
    text = "".join(page.words)
    assert text.count(said) == 2
    assert text.index(said) < text.index("Keep in mind")
    data = list(csv.DictReader(io.StringIO(page.csvs["robustness"])))
    (exact,) = [row for row in data if row["note"] == "alarm"]
    assert float(exact["value"]) == pytest.approx(2.55)
    assert (exact["algorithm"], exact["seeds"]) == ("AutoFLIP", "3")
    assert sum(row["measure"] == "rounds with a malicious majority, one seed" for row in data) == 6


def test_without_an_alarm_the_page_says_so_and_what_cannot_be_told(runs: list[RunRecord]):
    fedavg = [run for run in runs if run.algorithm == "fedavg"]
    assert alarms(rows(study(fedavg))) == []
    (said,) = trust(rows(study(fedavg)))
    assert said == (
        "No alarm: nowhere is it shown that malicious clients hold more trust than their share of the updates."
    )
    one = [run for run in runs if run.seed == 0]
    assert alarms(rows(study(one))) == []
    assert trust(rows(study(one)))[1] == (
        "Above 1 on average, but the seeds cannot tell whether it is, in 1: AutoFLIP, IID, noise σ 0.5 on 20 %: "
        "2.50 (1 seed)."
    )
    clean = [run for run in runs if not run.malicious_clients]
    assert trust(rows(study(clean))) == []
    page = Page(render(clean, {"name": "x"}, figures=False))
    assert not [name for name in page.tables["beyond-accuracy"][0] if "trust" in name or "recovery" in name]


def test_many_alarms_are_counted(runs: list[RunRecord]):
    row = next(row for row in rows(study(runs)) if row.alarm)
    (one,) = alarms([row] * 9)
    assert one.endswith("(3 seeds), and more than their share in 8 more places.")
    said = alarms([replace(row, algorithm=f"rule {number}") for number in range(9)])
    assert len(said) == 7
    assert said[-1] == "And 3 more algorithms."


MAJORITY = Majority(20, 4, 5, False, 40, 0.03199, 1.2796, 0)


@pytest.mark.parametrize(
    ("one", "seen", "said"),
    [
        (
            MAJORITY,
            (1, 3, 0),
            "4 malicious of 20 clients, cohorts of 5: at least half of a cohort is malicious with probability 3.2 %, "
            "in 1.3 of 40 rounds with an attack expected; the runs had 1.3 on average (0 to 3).",
        ),
        (
            replace(MAJORITY, poisson=True, probability=4.2e-5, expected=4.2e-5, acting=1),
            (0, 0),
            "4 malicious of 20 clients, cohorts of about 5 (Poisson sampling): at least half of a cohort is malicious "
            "with probability 0.004 %, in 0.0 of 1 round with an attack expected; the runs had 0 in each.",
        ),
    ],
)
def test_majorities(one: Majority, seen: tuple[int, ...], said: str):
    first, moral = majorities([Majorities(one, seen)])
    assert first == said
    assert moral.startswith("No rule that looks at the rows of one round alone can be guaranteed to withstand")
    changing = majorities([Majorities(replace(one, expected=0.9 * one.expected), seen)])[0]
    assert changing.startswith("Up to 4 malicious")
    assert "with probability up to " in changing
    assert majorities([Majorities(replace(one, probability=0.0), seen)]) == majorities([]) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], None),
        ([Recovery(3, 8)], ("3", "(3, 1 seed)")),
        ([Recovery(3, 8), Recovery(0, 8), Recovery(6, 8)], ("3", "(0 to 6, 3 seeds)")),
        ([Recovery(3, 8), Recovery(None, 8), Recovery(1, 8)], ("3", "(not within 8 rounds in 1 of 3 seeds)")),
        ([Recovery(3, 8), Recovery(None, 8)], ("> 8", "(not within 8 rounds in 1 of 2 seeds)")),
        ([Recovery(None, 8), Recovery(None, 6)], ("> 6 to 8", "(not within 6 to 8 rounds in 2 of 2 seeds)")),
    ],
)
def test_recovery(runs: list[RunRecord], found: list[Recovery], said: tuple[str, str] | None):
    row = rows(study(runs))[0]
    one: Row = replace(row, runs=tuple(replace(row.runs[0], recovery=each) for each in found))
    assert recovered(one) == said
