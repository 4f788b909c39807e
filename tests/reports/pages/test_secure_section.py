"""The section about parties: the same run in the open beside it, what was seen, what it cost, what attackers made."""

from collections.abc import Callable
from typing import Any

import pytest
from planted import moved

from autoflip_secure.records.audit import AuditRecord, Estimate, LabelInference
from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord, SecretPhase, SecureSumRecord
from autoflip_secure.reports.pages.report import render
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.wording.secure import lines

Make = Callable[..., RunRecord]
HIDDEN = ["deviations of the explorers: their sum", "updates: every <one> of them"]


def through(open_run: RunRecord, **changes: Any) -> RunRecord:
    """The same run with its exploration through three parties."""
    phase = SecretPhase(
        phase="exploration", batches=1, rows=5, sums=1, numbers_per_client=0, client_bytes=9, server_bytes=9,
        revealed_bytes=9, party_bytes=9,
    )  # fmt: skip
    config = open_run.config | {"secure_sum": {"parties": 3, "updates": False}}
    return open_run.model_copy(
        update={
            "config": config,
            "cell": f"{open_run.cell}s",
            "secure_sum": SecureSumRecord(parties=3, phases=[phase], server_sees=HIDDEN),
            "timing": open_run.timing | {"secure_seconds": 0.25},
            **changes,
        }
    )


@pytest.fixture
def runs(record: Make) -> list[RunRecord]:
    """Two seeds in the open and through parties; the masks of seed 1 differ, its accuracy is 2 points lower."""
    found = []
    for seed in (0, 1):
        made = record("autoflip", {"kind": "iid"}, {"kind": "none"}, seed, rounds=2)
        plain = made.model_copy(
            update={"digests": {"mask": "m", "guidance": "g"}, "config": made.config | {"secure_sum": None}}
        )
        changes = {} if seed == 0 else {"digests": {"mask": "other", "guidance": "g"}}
        found += [plain, moved(through(plain, **changes), -0.02 * seed)]
    return found


def look(view: str, right: float) -> LabelInference:
    accuracy = Estimate(value=right, low=right, high=right)
    return LabelInference.model_validate({"view": view, "clients": 5, "accuracy": accuracy, "chance": 0.2, "auc": None})


def audit(cell: str, *labels: LabelInference) -> AuditRecord:
    return AuditRecord(
        scenario="s", cell=cell, axes={}, algorithm="autoflip", seed=0, versions={}, effort={}, attack={},
        protection={}, final_accuracy=0.5, privacy=None, membership=[], empirical=[], labels=list(labels), notes=[],
    )  # fmt: skip


BOTH = look("plain", 1.0), look("securely summed", 0.2)


def test_a_secure_run_stands_beside_its_twin(runs: list[RunRecord]) -> None:
    (line,) = lines(study(runs), [])
    plain = [DEFAULT.accuracy(run) for run in runs[::2]]
    assert line.accuracy == f"{50 * sum(plain):.1f} → {50 * sum(plain) - 1:.1f} %"
    assert line.equal == ["guidance equal: 2 of 2", "masks equal: 1 of 2"]
    assert line.seconds == "0.25 s"
    assert line.sees == HIDDEN
    assert line.guessed == []
    (alone,) = lines(study(runs[1::2]), [])
    assert alone.equal == ["no twin in the open"]
    assert "→" not in alone.accuracy + alone.bytes


def test_links_in_plaintext_are_told(runs: list[RunRecord]) -> None:
    seen = runs[1].secure_sum
    assert seen is not None
    bare = runs[1].model_copy(update={"secure_sum": seen.model_copy(update={"links": "plaintext"})})
    (line,) = lines(study([runs[0], bare, *runs[2:]]), [])
    assert line.sees == [*HIDDEN, "links in plaintext in 1 of 2 runs: anybody who reads them all reads every row"]


def test_attacks_on_its_own_cells_are_told(runs: list[RunRecord]) -> None:
    mine, foreign = audit(runs[1].cell, *BOTH), audit(runs[0].cell, look("plain", 0.7))
    other = audit(runs[3].cell, look("plain", 0.9), look("securely summed", 0.3))
    (line,) = lines(study(runs), [foreign, mine, other])
    assert line.guessed == ["single deviations: 95 %", "their sum: 25 %", "chance: 20 %"]
    silent = [run.model_copy(update={"exploration": None}) for run in runs]
    assert lines(study(silent), [mine])[0].guessed == ["does not explore"]


@pytest.mark.slow
def test_the_page_shows_it_and_says_how_to_attack(runs: list[RunRecord], scenario: dict[str, Any]) -> None:
    bare, attacked = (render(runs, scenario, audits=a) for a in ([], [audit(runs[1].cell, *BOTH)]))
    assert 'id="secure-table"' in bare
    assert "every &lt;one&gt; of them" in bare
    assert "Nobody attacked these runs" in bare
    assert "Nobody attacked these runs" not in attacked
    assert "single deviations: 100 %" in attacked
    assert "What the parties hid" not in render(runs[::2], scenario, figures=False)
