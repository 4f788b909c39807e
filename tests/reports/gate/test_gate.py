"""The gate on whole sweeps of invented records: what meets what, error rates with every metric, exit codes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gated import ALGORITHMS, DEFAULTS, IID, Make, baseline, gate, take
from planted import at, moved
from scipy import stats
from sizes import sized

from autoflip_secure.errors import InputError
from autoflip_secure.records.outcome import DEFAULT as OUTCOME
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.choice import Choice, choice_of
from autoflip_secure.reports.gate.comparison import LEVEL
from autoflip_secure.reports.gate.decision import Decision
from autoflip_secure.reports.gate.entries import entries
from autoflip_secure.reports.gate.metrics import METRICS, config_hash
from autoflip_secure.reports.study.labels import is_clean


def worse(
    records: list[RunRecord], loss: float, where: Callable[[RunRecord], bool], wobble: float = 0.0
) -> list[RunRecord]:
    """The same records with accuracy taken away from some of them."""
    draws = np.random.default_rng(3)
    return [moved(r, wobble * draws.normal() - loss) if where(r) else r for r in records]


def attacked_autoflip(record: RunRecord) -> bool:
    return record.algorithm == "autoflip" and not is_clean(record.config["attack"])


def test_the_same_run_again_passes_whatever_the_number_of_seeds(pool: dict[int, list[RunRecord]]) -> None:
    for seeds in (range(1), range(2), range(5)):
        records = take(pool, seeds)
        again = [RunRecord.model_validate_json(r.model_dump_json()) for r in records]
        result = gate(again, baseline(records), clean_accuracy=0.0, bytes=0.0)
        assert (result.decision, result.exit_code) == (Decision.PASS, 0)
        assert {line.judgement.comparison.method for line in result.lines} == {"identical"}
        assert result.identical == (len(records), len(records))


def test_every_metric_of_every_configuration_is_judged(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(3))
    result = gate(records, baseline(records))
    judged = sorted((line.algorithm, line.metric.name) for line in result.lines)
    costs = ["bytes", "flops_compacted", "flops_sparse"]
    fedavg = ["attacked_accuracy"] * 2 + ["clean_accuracy", "degradation_area"] + costs * 3
    assert judged == sorted(
        [("FedAvg", name) for name in fedavg] + [("AutoFLIP", name) for name in [*fedavg, *["detection_auc"] * 2]]
    )
    sampled = {name for name, metric in METRICS.items() if not metric.computed}
    assert {name for _, name in judged} == sampled - {"secure_sum_error", "attack_success"}  # no parties, no backdoor
    assert len({line.name for line in result.lines}) == len(result.lines)


def test_values_are_those_of_the_records(pool: dict[int, list[RunRecord]]) -> None:
    """By hand, one seed: the area between strengths 0, 0.1 and 0.5; bytes both ways, masks included."""
    found = entries(take(pool, range(2)))
    cells = {r.config["attack"].get("sigma", 0.0): r for r in pool[1] if r.algorithm == "autoflip"}
    a, b, c = (OUTCOME.accuracy(cells[x]) for x in (0.0, 0.1, 0.5))
    (curve,) = [e for e in found.values() if e.curve and e.algorithm == "AutoFLIP"]
    assert curve.metrics["degradation_area"][1] == pytest.approx(((a + b) / 2 * 0.1 + (b + c) / 2 * 0.4) / 0.5)
    entry = found[config_hash(cells[0.5].config)]
    sent = cells[0.5].costs.bytes
    assert entry.metrics["bytes"][1] == sent.uplink_bitmask + sent.downlink_bitmask
    assert "clean_accuracy" not in entry.metrics
    assert cells[0.5].detection is not None
    assert entry.metrics["detection_auc"][1] == cells[0.5].detection.auc


def test_private_configurations_have_short_words(pool: dict[int, list[RunRecord]]) -> None:
    base = take(pool, range(1))[0]
    whole = {"kind": "client_level", "clip": 1.0, "noise": "distributed", "noise_multiplier": 2.0, "delta": None}
    sample = {"kind": "sample_level", "clip": 1.0, "target_epsilon": 4.0, "delta": None}
    through = {"parties": 3, "updates": True}
    settings = [(None, None), (sample, None), (whole, None), (whole, through), ({**whole, "clip": 2.0}, None)]
    records = [
        base.model_copy(update={"config": {**base.config, "privacy": private, "secure_sum": parties}})
        for private, parties in settings
    ]
    words = [entry.condition for entry in entries(records).values()]
    bare, *private = words
    assert private[0] == f"{bare}, single samples, target ε 4"
    assert private[1] == f"{bare}, whole clients, each adds noise, σ 2 · clip 1"
    assert private[2] == f"{bare}, whole clients, each adds noise, σ 2, everything through 3 parties"
    assert private[3] == f"{bare}, whole clients, each adds noise, σ 2 · clip 2"


def test_other_seeds_raise_an_alarm_in_at_most_5_percent_of_runs(pool: dict[int, list[RunRecord]]) -> None:
    """All metrics of both algorithms at once, unpaired."""
    draws, alarms, runs = np.random.default_rng(11), 0, sized(60, 200)
    for _ in range(runs):
        seeds = draws.permutation(len(pool))[:10]
        result = gate(take(pool, seeds[:5]), baseline(take(pool, seeds[5:])))
        methods = {line.judgement.comparison.method for line in result.lines}
        assert methods <= {"unpaired", "exact", "none"}  # none: seeds without an AUC leave less than five
        alarms += result.exit_code == 1
    assert alarms <= stats.binom.ppf(0.999, runs, LEVEL)


def test_a_planted_regression_of_one_margin_does_not_pass(pool: dict[int, list[RunRecord]]) -> None:
    """On the same seeds, in one algorithm under attack only; with little spread it is named, with much it is open."""
    draws = np.random.default_rng(5)
    margin = DEFAULTS["attacked_accuracy"]
    words = []
    for run in range(25):
        records = take(pool, draws.permutation(len(pool))[:6])
        result = gate(worse(records, margin, attacked_autoflip, 0.002 + 0.0002 * run), baseline(records))
        words.append(result.exit_code)
        named = {line.algorithm for line in result.of(Decision.REGRESSION)}
        assert named <= {"AutoFLIP"}
    assert 0 not in words
    assert words.count(1) >= 20


def test_exactly_one_margin_on_every_seed_is_a_regression(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(5))
    for loss, code in ((0.03, 1), (0.0299, 0), (-0.1, 0)):
        lower = worse(records, loss, attacked_autoflip)
        assert gate(lower, baseline(records), degradation_area=0.5).exit_code == code


def test_costs_and_detection_regress_too(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(5))

    def spoil(r: RunRecord) -> RunRecord:
        sent = r.costs.bytes.model_copy(update={"uplink_bitmask": int(r.costs.bytes.uplink_bitmask * 1.2)})
        detection = r.detection and r.detection.model_copy(update={"auc": r.detection.auc and r.detection.auc * 0.8})
        return r.model_copy(update={"costs": r.costs.model_copy(update={"bytes": sent}), "detection": detection})

    result = gate([spoil(r) for r in records], baseline(records), choice=Choice(metrics=("all",)))
    assert {line.metric.name for line in result.of(Decision.REGRESSION)} == {"bytes", "detection_auc"}
    assert gate(records, baseline([spoil(r) for r in records])).exit_code == 0  # cheaper and better is no regression


def test_different_settings_never_meet(pool: dict[int, list[RunRecord]], record: Make) -> None:
    records = take(pool, range(3))
    held = baseline(records)
    others = [record(r.algorithm, IID, r.config["attack"], r.seed, rounds=3) for r in records]
    with pytest.raises(InputError, match=r"no configuration of the sweep is in the baseline.*rounds: 2 -> 3"):
        gate(others, held)
    result = gate(records + others, held)
    assert result.exit_code == 0
    assert len(result.new) == 8  # three cells and a curve of each algorithm
    fewer = gate([r for r in records if r.algorithm == "fedavg"], held)
    assert fewer.exit_code == 2
    assert {entry.algorithm for entry in fewer.missing} == {"AutoFLIP"}


def test_a_regression_outweighs_what_is_missing(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(3))
    rest = [r for r in worse(records, 0.2, attacked_autoflip) if r.algorithm == "autoflip"]
    result = gate(rest, baseline(records))
    assert result.missing
    assert result.exit_code == 1


def test_a_sweep_with_more_strengths_still_meets_the_old_curve(
    pool: dict[int, list[RunRecord]], record: Make, attack: dict[str, Callable[..., dict[str, Any]]]
) -> None:
    records = take(pool, range(3))
    more = records + [record(a, IID, attack["noise"](1.0), s, rounds=2) for a in ALGORITHMS for s in range(3)]
    result = gate(more, baseline(records))
    assert (result.exit_code, result.missing) == (0, [])
    assert len(result.new) == 4  # a cell and a longer curve of each
    back = gate(records, baseline(more))
    assert (back.exit_code, len(back.missing)) == (2, 4)


def test_too_few_seeds_say_how_many_more(pool: dict[int, list[RunRecord]]) -> None:
    one = gate(take(pool, [1]), baseline(take(pool, [2])))
    assert one.exit_code == 2
    assert {line.judgement.more_seeds for line in one.of(Decision.CANNOT_TELL)} == {1}
    wide = gate(take(pool, range(3)), baseline(take(pool, range(50, 53))), clean_accuracy=0.001)
    open_lines = [x for x in wide.of(Decision.CANNOT_TELL) if x.metric.name == "clean_accuracy"]
    assert all(x.judgement.more_seeds is None or x.judgement.more_seeds > 20 for x in open_lines)
    assert wide.exit_code == 2


def test_a_metric_that_is_gone_cannot_be_told(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(3))
    blind = [r.model_copy(update={"detection": None}) for r in records]
    result = gate(blind, baseline(records))
    assert result.exit_code == 2
    assert {x.judgement.reason for x in result.of(Decision.CANNOT_TELL)} == {"not measured in the new run"}
    back = gate(records, baseline(blind))
    assert back.exit_code == 0
    assert any("detection AUC" in label for label in back.new_metrics)


def test_a_metric_that_is_gone_on_some_seeds_is_not_judged_by_the_others(pool: dict[int, list[RunRecord]]) -> None:
    """Seeds on which it cannot be measured any more are those on which something broke."""
    records = take(pool, range(6))

    def blind(seeds: range) -> list[RunRecord]:
        return [
            r if r.detection is None or r.seed not in seeds
            else r.model_copy(update={"detection": r.detection.model_copy(update={"auc": None})})
            for r in records
        ]  # fmt: skip

    only = choice_of("detection", None)
    result = gate(blind(range(2, 6)), baseline(records), only)
    assert result.exit_code == 2
    assert {x.judgement.reason for x in result.of(Decision.CANNOT_TELL)} == {
        "not measured on 4 of 6 seeds of the new run, so the others alone tell nothing"
    }
    assert gate(blind(range(5, 6)), baseline(blind(range(5, 6))), only).exit_code == 0
    assert gate(records, baseline(blind(range(2, 6))), only).exit_code == 0


def test_records_that_cannot_be_compared_are_refused(pool: dict[int, list[RunRecord]]) -> None:
    broken = pool[0][0]
    with pytest.raises(InputError, match="clean accuracy = nan is not a finite number"):
        entries([at(broken, float("nan"))])
    for update, expected in (
        ({"schema_version": 9}, "record format 9"),
        (
            {"costs": broken.costs.model_copy(update={"flops": broken.costs.flops.model_copy(update={"sparse": 0})})},
            "sparse = 0",
        ),
    ):
        with pytest.raises(InputError, match=expected):
            entries([broken.model_copy(update=update)])
