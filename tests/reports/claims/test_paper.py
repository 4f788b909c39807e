"""The falsifier and the claims on costs and speed, on planted records: each holds, does not hold, or cannot be told."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from planted import moved
from planted_claims import WOBBLE, Make, accuracies, answers, rounds

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.tuning import choose
from autoflip_secure.reports.claims import paper as module
from autoflip_secure.reports.claims.findings import Answer
from autoflip_secure.reports.claims.paper import claims
from autoflip_secure.reports.claims.subjects import PrunedPair, pruned_pair, subject
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.summaries import claims_table, tally


def test_the_falsifier_comes_first_and_every_claim_is_there(small: list[RunRecord]):
    found = claims(study(small))
    assert [c.slug for c in found][:2] == ["falsifier", "accuracy"]
    assert len({c.slug for c in found}) == len(found) == 12
    assert all(c.evidence or c.needs for c in found)
    assert all(bool(c.evidence) != (c.answer is Answer.NOT_TESTED) for c in found)


@pytest.mark.parametrize(
    ("pruned", "answer"),
    [(0.80, Answer.HOLDS), (0.797, Answer.DOES_NOT_HOLD), (0.7985, Answer.CANNOT_TELL)],
)
def test_the_falsifier(cell: Callable[..., RunRecord], pruned: float, answer: Answer):
    spread = {0.7985: 3.0}.get(pruned, 1.0)
    cells = accuracies(cell, fedavg=0.80, guidance_only=pruned)
    cells = [moved(c, (spread - 1) * WOBBLE[c.seed]) if c.algorithm == "guidance_only" else c for c in cells]
    found = answers(cells)["falsifier"]
    assert found.answer is answer
    expected = mean_interval([pruned - 0.80 + spread * w for w in WOBBLE])
    assert (found.evidence[0].interval.low, found.evidence[0].interval.high) == pytest.approx(
        (expected.low, expected.high)
    )
    assert "guidance only with FedAvg" in found.notes[0]


def test_the_falsifier_wants_twins_that_differ_in_pruning_alone(cell: Callable[..., RunRecord]):
    mixed = accuracies(cell, fedavg=0.8, autoflip=0.7)
    assert pruned_pair(study(mixed)) is None
    found = answers(mixed)["falsifier"]
    assert found.answer is Answer.NOT_TESTED
    assert "agreement_only" in found.needs
    pair = accuracies(cell, agreement_only=0.8, autoflip=0.7)
    assert pruned_pair(study(pair)) == PrunedPair("AutoFLIP", "agreement only", "")
    both = [*pair, *accuracies(cell, fedavg=0.8, guidance_only=0.79)]
    assert pruned_pair(study(both)) == PrunedPair("guidance only", "FedAvg", "")  # the mean before the score


def test_a_mask_that_is_refined_later_is_second_best_and_said(record: Make, partition: dict[str, Any]):
    split, clean = partition["two_classes"], {"kind": "none"}
    refined, static = {"refine_every": 5, "refine_until": 0.5}, {"refine_every": None}

    def with_pruner(name: str, seed: int, **pruner: Any) -> RunRecord:
        made = record("guidance_only", split, clean, seed, label=name)
        algorithm = {"pruner": {"kind": "threshold", **pruner}, "aggregator": {"kind": "mean"}}
        return made.model_copy(update={"config": made.config | {"algorithm": algorithm}})

    cells = [record("fedavg", split, clean, s) for s in range(3)]
    cells += [with_pruner("refined", s, **refined) for s in range(3)]
    assert pruned_pair(study(cells)) == PrunedPair("refined", "FedAvg", "the mask is refined by agreement later")
    cells += [with_pruner("static", s, **static) for s in range(3)]
    assert pruned_pair(study(cells)) == PrunedPair("static", "FedAvg", "")


def test_accuracy_at_the_level_of_fedavg(cell: Callable[..., RunRecord], partition: dict[str, Any]):
    for mean, answer in ((0.80, Answer.HOLDS), (0.797, Answer.HOLDS), (0.78, Answer.DOES_NOT_HOLD)):
        found = answers(accuracies(cell, fedavg=0.8, autoflip=mean))["accuracy"]
        assert found.answer is answer, mean
    iid = [cell(n, s, split="iid") for n in ("fedavg", "autoflip") for s in range(3)]
    only_iid = answers(iid)["accuracy"]
    assert only_iid.answer is Answer.NOT_TESTED
    assert "non-IID" in only_iid.needs


def test_costs_tell_sparse_from_compacted_and_values_from_bitmask(cell: Callable[..., RunRecord]):
    cells = [cell(n, s) for n in ("fedavg", "autoflip") for s in range(3)]
    found = answers(cells)
    own, base = (next(c for c in cells if c.algorithm == n).costs for n in ("autoflip", "fedavg"))
    expected = {
        "compute-sparse": 1 - own.flops.sparse / base.flops.dense,
        "compute-compacted": 1 - (own.flops.compacted or 0) / base.flops.dense,
        "communication-values": 1 - own.bytes.uplink_values / base.bytes.uplink_values,
        "communication-bitmask": 1 - own.bytes.uplink_bitmask / base.bytes.uplink_values,
    }
    for slug, saving in expected.items():
        assert found[slug].evidence[0].interval.mean == pytest.approx(saving, abs=1e-6), slug
    assert found["compute-sparse"].answer is Answer.HOLDS  # 69 % >= 50 %
    assert found["compute-compacted"].answer is Answer.DOES_NOT_HOLD  # 34 %
    places = [f"2 classes per client, {way}" for way in ("up", "down")]
    assert [e.where for e in found["communication-values"].evidence] == places


@pytest.mark.parametrize(
    ("saved", "answer"),
    [
        ((0.651, 0.66), Answer.HOLDS),
        ((0.65, 0.66), Answer.DOES_NOT_HOLD),  # over 65 % is more than 65 %
        ((0.64, 0.70), Answer.DOES_NOT_HOLD),  # one split does not make up for another
    ],
)
def test_communication_falls_by_over_65_percent_in_every_split(
    cell: Callable[..., RunRecord], saved: tuple[float, float], answer: Answer
):
    cells = []
    for split, share in zip(("iid", "two_classes"), saved, strict=True):
        for name, paid in (("fedavg", 100_000), ("autoflip", round(100_000 * (1 - share)))):
            for s in range(3):
                made = cell(name, s, split=split)
                sent = made.costs.bytes.model_copy(
                    update=dict.fromkeys(
                        ("uplink_values", "downlink_values", "uplink_bitmask", "downlink_bitmask"), paid
                    )
                )
                cells.append(made.model_copy(update={"costs": made.costs.model_copy(update={"bytes": sent})}))
    found = answers(cells)
    for claim in (found["communication-values"], found["communication-bitmask"]):
        assert claim.answer is answer
        assert [e.where for e in claim.evidence] == [
            f"{split}, {way}" for split in ("IID", "2 classes per client") for way in ("up", "down")
        ]
        assert all((e.answer is Answer.HOLDS) == (e.interval.mean > 0.65) for e in claim.evidence)


def test_compute_falls_on_average_and_every_setting_is_printed(cell: Callable[..., RunRecord]):
    cells = [
        cell(n, s, split=split) for split in ("iid", "two_classes") for n in ("fedavg", "autoflip") for s in (1, 2)
    ]
    (evidence,) = answers(cells)["compute-sparse"].evidence
    assert "mean over 2 settings (IID " in evidence.text
    assert "2 classes per client " in evidence.text


def test_a_model_that_cannot_be_compacted_is_not_tested(cell: Callable[..., RunRecord]):
    cells = []
    for name in ("fedavg", "autoflip"):
        for seed in range(3):
            made = cell(name, seed)
            flops = made.costs.flops.model_copy(update={"compacted": None})
            costs = made.costs.model_copy(update={"flops": flops})
            cells.append(made.model_copy(update={"costs": costs}))
    found = answers(cells)
    assert found["compute-compacted"].answer is Answer.NOT_TESTED
    assert "could not be compacted" in found["compute-compacted"].needs
    assert found["compute-sparse"].answer is Answer.HOLDS


def test_rounds_to_accuracy(cell: Callable[..., RunRecord]):
    slow = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.8]  # 90 % of the last half's mean .6625 = .596: round 6
    quick = [0.1, 0.3, 0.73, 0.74, 0.75, 0.76, 0.77, 0.78]  # round 3
    quicker = [0.1, 0.75, *quick[2:]]  # round 2
    cells = [rounds(cell("fedavg", s), slow) for s in range(4)]
    found = answers([*cells, *(rounds(cell("autoflip", s), quicker if s % 2 else quick) for s in range(4))])
    claim = found["convergence"]
    assert claim.answer is Answer.HOLDS
    assert claim.evidence[0].interval.mean == pytest.approx(3.5)
    never = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5]
    found = answers([*cells, *(rounds(cell("autoflip", s), quick if s else never) for s in range(4))])
    assert "1 of 4 runs never got there" in found["convergence"].evidence[0].text
    found = answers([*cells, *(rounds(cell("autoflip", s), slow) for s in range(4))])
    assert found["convergence"].answer is Answer.CANNOT_TELL  # four equal seeds: no spread, no word


@pytest.mark.parametrize(
    ("living", "over_all", "answers_"),
    [
        (0.5, 0.4, (Answer.HOLDS, Answer.HOLDS)),
        (2.0, 0.5, (Answer.DOES_NOT_HOLD, Answer.HOLDS)),  # calm only because pruned weights stand still
        (2.0, 1.5, (Answer.DOES_NOT_HOLD, Answer.DOES_NOT_HOLD)),
    ],
)
def test_variance_of_updates_over_living_and_over_all_coordinates(
    cell: Callable[..., RunRecord], living: float, over_all: float, answers_: tuple[Answer, Answer]
):
    curve = [0.5] * 8
    cells = [rounds(cell("fedavg", s), curve, 3.0, 3.0) for s in range(5)]
    for s in range(5):
        wobble = 3.0 * float(np.exp(10 * WOBBLE[s]))
        cells.append(rounds(cell("autoflip", s), curve, living * wobble, over_all * wobble))
    found = answers(cells)
    for slug, ratio, answer in zip(("variance-living", "variance-all"), (living, over_all), answers_, strict=True):
        assert found[slug].answer is answer
        assert np.exp(-found[slug].evidence[0].interval.mean) == pytest.approx(ratio)
        assert f"{ratio:.2f} times FedAvg's" in found[slug].evidence[0].text


def test_steps_of_other_learning_rates_are_not_compared(cell: Callable[..., RunRecord]):
    """A step grows with the rate, so of two tuned algorithms neither is the calmer one by it."""
    cells = []
    for s in range(5):
        for name, rate, variance in (("fedavg", 0.1, 3.0), ("autoflip", 0.01, 0.1)):
            one = rounds(cell(name, s), [0.5] * 8, variance, variance)
            found = {"0.1": 0.5, "0.01": 0.5} | {str(rate): 0.9}
            made = choose(
                [{"training.lr": 0.1}, {"training.lr": 0.01}], [["0.1"], ["0.01"]], found,
                seeds=(100,), outcome="last", combinations=2,
            )  # fmt: skip
            training = {**one.config["training"], "lr": rate}
            cells.append(one.model_copy(update={"tuning": made, "config": {**one.config, "training": training}}))
    for slug in ("variance-living", "variance-all"):
        claim = answers(cells)[slug]
        assert claim.answer is Answer.NOT_TESTED
        assert "--set tune=null" in claim.needs
        assert any("different rates" in note for note in claim.notes)


def test_a_record_of_an_earlier_version_knows_one_variance_only(cell: Callable[..., RunRecord]):
    found = answers([rounds(cell(n, s), [0.5] * 8) for n in ("fedavg", "autoflip") for s in range(3)])
    assert found["variance-living"].evidence
    assert found["variance-all"].answer is Answer.NOT_TESTED
    assert "run the sweep again" in found["variance-all"].needs


def test_a_round_without_a_step_has_no_variance(cell: Callable[..., RunRecord]):
    found = answers([rounds(cell(n, s), [0.5] * 8, 0.0, 0.0) for n in ("fedavg", "autoflip") for s in range(3)])
    for slug in ("variance-living", "variance-all"):
        assert found[slug].answer is Answer.NOT_TESTED
        assert "Add the algorithms" in found[slug].needs


def test_one_seed_answers_nothing(small: list[RunRecord]):
    found = claims(study([r for r in small if r.seed == 0]))
    assert {c.answer for c in found} <= {Answer.CANNOT_TELL, Answer.NOT_TESTED}
    assert any("one seed gives no interval" in e.text for c in found for e in c.evidence)


def test_without_autoflip_only_what_needs_none_is_tested(sweep: Callable[..., list[RunRecord]]):
    found = study(sweep(("fedavg", "guidance_only"), seeds=3))
    assert subject(found) is None
    tested = [c.slug for c in claims(found) if c.answer is not Answer.NOT_TESTED]
    assert tested == ["falsifier"]


def test_the_table_has_every_place_and_the_tally_every_claim(small: list[RunRecord]):
    found = claims(study(small))
    table = claims_table(found)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert len(table.rows) == sum(max(1, len(c.evidence)) for c in found)
    assert sum(int(word) for word in tally(found).split() if word.isdigit()) == len(found)
    assert "reading" in (module.__doc__ or "")
