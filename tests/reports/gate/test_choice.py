"""Which metrics decide: names, groups, what is advisory, what a baseline remembers; an advisory loss never fails."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gated import baseline, gate, take

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.choice import GROUPS, Choice, choice_of
from autoflip_secure.reports.gate.decision import Decision
from autoflip_secure.reports.gate.files import junit_xml, summary
from autoflip_secure.reports.gate.metrics import METRICS
from autoflip_secure.reports.gate.output import as_data, lines
from autoflip_secure.reports.study.labels import is_clean

COSTS = {"bytes", "flops_sparse", "flops_compacted"}


def dearer(record: RunRecord, factor: float = 1.2) -> RunRecord:
    sent = record.costs.bytes
    bytes_ = sent.model_copy(update={"uplink_bitmask": int(sent.uplink_bitmask * factor)})
    return record.model_copy(update={"costs": record.costs.model_copy(update={"bytes": bytes_})})


def test_every_metric_is_in_a_group() -> None:
    assert set(GROUPS["all"]) == set(METRICS)
    assert set(GROUPS["costs"]) == COSTS
    assert sum(len(names) for group, names in GROUPS.items() if group != "all") == len(METRICS)


@pytest.mark.parametrize(
    ("metrics", "advisory", "deciding", "shown"),
    [
        (None, None, set(METRICS) - COSTS, COSTS),
        ("all", None, set(METRICS), set()),
        ("accuracy", None, {"clean_accuracy", "attacked_accuracy", "degradation_area"}, COSTS),
        ("detection, bytes", None, {"detection_auc", "bytes"}, COSTS - {"bytes"}),
        ("accuracy", "none", {"clean_accuracy", "attacked_accuracy", "degradation_area"}, set()),
        ("clean_accuracy", "detection,costs", {"clean_accuracy"}, {"detection_auc", *COSTS}),
        (None, "none", set(METRICS) - COSTS, set()),
        (None, "detection", set(METRICS) - COSTS - {"detection_auc"}, {"detection_auc"}),
    ],
)  # fmt: skip
def test_what_decides_and_what_is_shown(
    metrics: str | None, advisory: str | None, deciding: set[str], shown: set[str]
) -> None:
    choice = choice_of(metrics, advisory)
    assert (choice.deciding, choice.shown) == (deciding, shown)


@pytest.mark.parametrize(
    ("metrics", "advisory", "said"),
    [
        ("acuracy", None, "--metrics acuracy: there is no metric or group 'acuracy'; did you mean 'accuracy'?"),
        ("", None, "--metrics '': names no metric"),
        (" , ", None, "names no metric"),
        (None, "cost", "--advisory cost: there is no metric or group 'cost'; did you mean 'costs'?"),
        ("bytes", "costs", "--advisory costs: 'bytes' is in --metrics too"),
        (None, "all", "--advisory all: leaves no metric that could fail"),
    ],
)
def test_a_wrong_choice_is_one_sentence(metrics: str | None, advisory: str | None, said: str) -> None:
    with pytest.raises(InputError) as error:
        choice_of(metrics, advisory)
    assert str(error.value).startswith(said) or said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_asked_now_comes_before_what_the_baseline_remembers() -> None:
    kept = Choice(metrics=("accuracy",), advisory=("costs", "detection"))
    assert Choice().over(kept) == kept
    assert Choice(metrics=("accuracy", "detection")).over(kept).deciding >= {"detection_auc"}
    assert Choice(metrics=("accuracy", "detection")).over(kept).shown == COSTS
    assert Choice(advisory=()).over(kept) == Choice(metrics=("accuracy",), advisory=())
    assert Choice(metrics=("all",)).over(Choice()) == Choice(metrics=("all",))


def test_costs_are_shown_and_never_fail_unless_they_are_chosen(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(5))
    held, now = baseline(records), [dearer(r) for r in records]
    result = gate(now, held)
    assert (result.exit_code, result.of(Decision.REGRESSION)) == (0, [])
    worse = [line for line in result.advisory if line.judgement.decision is Decision.REGRESSION]
    assert {line.metric.name for line in worse} == {"bytes"}
    assert sum(text.startswith("advisory: ") and "bytes" in text for text in lines(result)) == len(worse)
    assert 'failures="0" errors="0"' in junit_xml(result)
    assert "advisory, regression: " in junit_xml(result)
    assert "metrics that did not pass" not in summary(result)
    rows = as_data(result)["metrics"]
    assert {row["metric"] for row in rows if row["advisory"]} == COSTS
    assert gate(now, held, choice=choice_of("all", None)).exit_code == 1
    assert gate(now, held, choice=choice_of("accuracy,bytes", None)).exit_code == 1
    assert gate(now, held, choice=choice_of("accuracy,bytes", None), bytes=0.25).exit_code == 0
    assert gate(now, held, choice=choice_of("accuracy,flops_sparse", None)).exit_code == 0


def test_what_is_advisory_costs_what_decides_no_power(pool: dict[int, list[RunRecord]]) -> None:
    """Two families: corrected p-values of accuracies are the same, whatever happens to costs."""
    draws = np.random.default_rng(2)
    records = take(pool, range(5))
    noisy = [dearer(r, float(draws.normal(1.0, 0.1))) for r in records]
    wanted = choice_of("accuracy", None)
    plain, spread = (gate(now, baseline(take(pool, range(50, 55))), choice=wanted) for now in (records, noisy))
    assert [x.judgement.p_pass for x in plain.deciding] == [x.judgement.p_pass for x in spread.deciding]
    assert len(plain.deciding) < len(gate(records, baseline(records), choice=choice_of("all", None)).deciding)


def test_a_curve_that_decides_nothing_is_not_missed(
    pool: dict[int, list[RunRecord]], record: Callable[..., RunRecord], attack: dict[str, Callable[..., dict[str, Any]]]
) -> None:
    records = take(pool, range(3))
    some = [r for r in records if r.config["attack"].get("sigma") != 0.1]
    assert gate(some, baseline(records)).missing
    calm = [r for r in records if is_clean(r.config["attack"])]
    assert not [e for e in gate(calm, baseline(records), choice=choice_of("detection,clean_accuracy", None)).missing
                if e.curve]  # fmt: skip


def test_a_choice_of_nothing_that_was_measured_is_refused(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(3))
    with pytest.raises(InputError, match="--metrics backdoors: the baseline has none of these; name others"):
        gate(records, baseline(records), choice=choice_of("backdoors", None))
