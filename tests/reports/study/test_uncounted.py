"""Models whose operations are not counted: a dash and the reason, everywhere, and all other numbers as they are."""

from collections.abc import Callable
from typing import Any

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.models.amounts import Flops
from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims.costs import communication, compute
from autoflip_secure.reports.comparison.changes import change_table, compare_pairs, sentences
from autoflip_secure.reports.comparison.matching import match
from autoflip_secure.reports.comparison.side_by_side import Side, render_comparison
from autoflip_secure.reports.figures.costs import against_bytes, against_operations
from autoflip_secure.reports.figures.style import Palette
from autoflip_secure.reports.gate.metrics import METRICS
from autoflip_secure.reports.pages.markdown import summary
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.scoreboard import standings
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.frame_files import parquet
from autoflip_secure.reports.tables.frames import tidy
from autoflip_secure.reports.wording.verdict import opening
from autoflip_secure.scenarios.testing.robustness import Results
from autoflip_secure.scenarios.trackers.flattened import track

WHY = "operations are not counted: what aten._fft_r2c in layer 'first' costs is not known"
NOTHING = Flops(dense=None, sparse=None, compacted=None)


def uncounted(record: RunRecord) -> RunRecord:
    costs = record.costs.model_copy(update={"flops": NOTHING, "model_flops": NOTHING, "compaction": WHY})
    rounds = [entry.model_copy(update={"flops": NOTHING}) for entry in record.rounds]
    explored = record.exploration and record.exploration.model_copy(update={"flops": None})
    found = record.model_copy(update={"costs": costs, "rounds": rounds, "exploration": explored})
    assert RunRecord.model_validate_json(found.model_dump_json()) == found
    return found


@pytest.fixture(scope="module")
def records(sweep: Callable[..., list[RunRecord]], attack: dict[str, Any]) -> list[RunRecord]:
    conditions = [attack["clean"](), attack["noise"](0.5)]
    return [uncounted(r) for r in sweep(("fedavg", "autoflip"), attacks=conditions, seeds=3, rounds=4)]


def test_the_scoreboard_has_bytes_and_dashes_and_says_why(records: list[RunRecord]) -> None:
    found = study(records)
    rows = compare(found)
    line = {s.algorithm: s for s in standings(found, rows)}["AutoFLIP"]
    assert line.uplink is not None
    assert line.flops == {}
    text = opening(found, rows, {}, 0)
    (said,) = [caveat for caveat in text.caveats if WHY in caveat]
    assert said.startswith(f"In {len(records)} runs, shown as –, operations are not counted")
    assert not any("compacted" in caveat for caveat in text.caveats)
    page = summary(found, text, compute(found), name="x")
    (row,) = [part for part in page.splitlines() if part.startswith("| AutoFLIP ")]
    assert row.endswith("| – |")
    assert "not counted" in page


def test_some_runs_without_numbers_leave_the_others(records: list[RunRecord], small: list[RunRecord]) -> None:
    mixed = [r for r in small if r.algorithm in ("fedavg", "autoflip")]
    mixed = [uncounted(r) if r.seed == 0 else r for r in mixed]
    line = {s.algorithm: s for s in standings(study(mixed), compare(study(mixed)))}["AutoFLIP"]
    own, base = (next(r.costs for r in mixed if r.algorithm == a and r.seed) for a in ("autoflip", "fedavg"))
    assert own.flops.sparse
    assert base.flops.dense
    assert line.flops["sparse"] == pytest.approx(own.flops.sparse / base.flops.dense, rel=1e-6)
    (said,) = [c for c in opening(study(mixed), compare(study(mixed)), {}, 0).caveats if WHY in c]
    assert said.startswith(f"In {sum(r.seed == 0 for r in mixed)} runs")


def test_claims_about_operations_are_open_and_name_the_reason(records: list[RunRecord]) -> None:
    found = study(records)
    for claim in compute(found):
        assert not claim.evidence
        assert claim.needs == f"Where it ran, {WHY}."
    assert all(claim.evidence for claim in communication(found))
    palette = Palette(found)
    assert against_operations(found, palette) is None
    assert against_bytes(found, palette) is not None


def test_tables_leave_gaps_beside_the_reason(records: list[RunRecord], small: list[RunRecord]) -> None:
    frame = tidy([*records[:2], small[0]])
    assert frame["operations"].dropna().unique().tolist() == [WHY]
    own = frame[frame["cell"] == small[0].cell]
    assert own["operations"].isna().all()
    assert own["flops.sparse"].notna().all()
    assert frame[frame["cell"] == records[0].cell]["flops.sparse"].isna().all()
    assert parquet(frame)
    assert "operations" not in tidy(small[:2])


def test_gate_trackers_and_fixture(records: list[RunRecord]) -> None:
    for name in ("flops_sparse", "flops_compacted"):
        read = METRICS[name].read
        assert read is not None
        assert read(records[0], DEFAULT) is None
    seen = track(records[0])
    names = [name for name, value in seen.final.items() if value is not None]
    assert "final/uplink_bytes" in names
    assert "final/training_flops" not in names
    results = Results("x", None, tuple(records), 0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"aten\._fft_r2c"):
        results.training_flops(algorithm="fedavg", attack="none", partition="iid")


def test_two_sweeps_side_by_side(records: list[RunRecord]) -> None:
    matching = match(records, records)
    rows = compare_pairs(study(records), matching)
    assert {row.flops for row in rows} == {(None, None)}
    assert change_table(rows).rows
    other = [r.model_copy(update={"final_accuracy": r.final_accuracy + 0.01}) for r in records]
    changed = match(records, other)
    assert any("The costs are the same" in text for text in sentences(changed, compare_pairs(study(records), changed)))
    page = render_comparison(Side("A", "x", "a", records), Side("B", "x", "b", other))
    assert '<td class="num">–</td>' in page
