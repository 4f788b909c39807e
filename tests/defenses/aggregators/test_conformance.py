"""The vectors of ``conformance/``: ours pass, byzfl passes but for what is known, and what is wrong is found."""

from __future__ import annotations

import sys
from pathlib import Path

import byzfl
import numpy as np
import pytest
import shared_rules

from autoflip_secure.scenarios.config.tables import AGGREGATORS, PRE_AGGREGATORS
from conformance import FOLDER, Case, check, main, read  # beside the vectors; shared_rules put it on the path

CASES = read()
NOT_A_RULE_OF_ROWS_ALONE = {
    "agreement",
    "filtered_agreement",
    "radial",
    "weak_dp",
    "last_rows",
}  # they need guidance, draw noise, or recall


def test_every_rule_has_vectors_and_we_offer_all_of_them() -> None:
    rules = {case.rule for case in CASES}
    assert rules >= ({*AGGREGATORS, *PRE_AGGREGATORS} - NOT_A_RULE_OF_ROWS_ALONE)
    assert {case.rule for case in CASES if case.file != "attacks"} == set(shared_rules.OURS)


@pytest.mark.parametrize("case", [c for c in CASES if c.rule in shared_rules.OURS], ids=lambda c: f"{c.rule}-{c.about}")
def test_ours_gives_what_is_expected(case: Case) -> None:
    (finding,) = check(shared_rules.OURS, [case])
    assert finding.problem == "", str(finding)


DEFECTS = {  # byzfl 0.0.11: rule and what the case is about -> why
    ("krum", "n-f-2 neighbours"): "it has n-f-1 alone",
    (
        "mda",
        "one row of length 1e12",
    ): "of subsets of one diameter it takes the first",
}


def test_byzfl_passes_but_for_its_known_defects() -> None:
    findings = check(shared_rules.BYZFL)
    wrong = {(one.case.rule, one.case.about): one.problem for one in findings if one.problem}
    assert wrong.keys() == DEFECTS.keys(), wrong
    assert sum(one.problem == "" for one in findings) > 25


def test_what_else_is_wrong_with_the_oracle() -> None:
    """So that nobody takes these for a difference of ours; a newer byzfl that is better fails here."""
    rows = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [90.0, 0.0]])
    for change in (byzfl.ARC(f=1), byzfl.Clipping(c=1.0)):
        given = rows.copy()
        change(given)
        assert not np.array_equal(given, rows), "changes what it is given"
    with pytest.raises((ValueError, TypeError)):
        byzfl.CenteredClipping(m=np.zeros(2), L=1, tau=1.0)
    spread = np.random.default_rng(0).normal(size=(9, 5)) * [5, 4, 3, 2, 1]
    found = {tuple(byzfl.CAF(f=3)(spread)) for _ in range(5)}
    assert len(found) > 1, "one step of the power method, from a random start"


def test_the_runner_tells_right_from_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "their_rules.py").write_text(
        """
import statistics


def median(rows):
    return [statistics.median(column) for column in zip(*rows)]


def in_place(rows, bound):
    for row in rows:
        length = sum(x * x for x in row) ** 0.5
        row[:] = [x * min(1, bound / max(length, 1e-300)) for x in row]
    return rows


RIGHT = {"median": median}
WRONG = {"median": lambda rows: [2 * x for x in median(rows)], "mean": lambda rows: rows[0][:1], "krum": None}
CHANGES = {"clip": in_place}
NOTHING = {"mode": median}
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["their_rules:RIGHT"]) == 0
    assert main(["their_rules:WRONG"]) == 1
    said = capsys.readouterr().out
    assert "median (an odd number of rows): number 0 is 8, expected 4" in said
    assert "mean (five rows, one far away): gives 1 numbers, expected 3" in said
    assert main(["their_rules:CHANGES"]) == 1
    assert "changes its input in place" in capsys.readouterr().out
    assert main(["their_rules:NOTHING"]) == 2
    assert main([]) == 2


def test_it_needs_nothing_but_python_and_refuses_other_formats(tmp_path: Path) -> None:
    source = (FOLDER / "conformance.py").read_text(encoding="utf-8")
    imported = {
        word for line in source.splitlines() if line.startswith(("import ", "from ")) for word in line.split()[1:2]
    }
    assert {name.partition(".")[0] for name in imported} <= {*sys.stdlib_module_names, "__future__"}
    (tmp_path / "later.json").write_text('{"format": 2, "cases": []}')
    with pytest.raises(ValueError, match=r"later\.json: format 2"):
        read(tmp_path)
