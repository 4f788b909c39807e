"""Every claim has a place, a source and a scenario; verdicts are the claims' own, and the worst place decides."""

from collections.abc import Callable
from typing import Any

import pytest
from planted_claims import WOBBLE, accuracies

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims import portfolio
from autoflip_secure.reports.claims.findings import Answer, Bound, Claim, Evidence, weigh
from autoflip_secure.reports.claims.mask import heavy_at_zero, refinement, whole_units
from autoflip_secure.reports.claims.paper import claims
from autoflip_secure.reports.claims.portfolio import ASKED, POINTS, AnsweredClaim, Asked, Stage, answered, scenarios
from autoflip_secure.reports.claims.rivals import rivals
from autoflip_secure.reports.claims.words import conditions, effect, headline, opening, seeds_needed, verdict
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.study import study
from autoflip_secure.scenarios.config.sources import presets
from autoflip_secure.scenarios.running.claim_stages import STAGES

Cell = Callable[..., RunRecord]


def absent() -> dict[str, str]:
    return dict.fromkeys(scenarios(), "It was not run.")


def test_every_claim_has_a_source_a_scenario_and_words_without_any_record() -> None:
    found = answered({}, absent())
    assert [one.asked for one in found] == list(ASKED)
    assert len({asked.key for asked in ASKED}) == len(ASKED)
    sources = " ".join(asked.source for asked in ASKED)
    assert all(f"Fig. {number}" in sources for number in (3, 4, 5, 6, 7, 8, 9, 10, 11, 12))
    assert all(word in sources for word in ("abstract", "Table III", "review"))
    for one in found:
        assert one.claim.answer is Answer.NOT_TESTED
        assert len(one.claim.says) > 20
        assert one.claim.needs
        assert one.deciding is None
    assert headline(found) == f"Of {len(ASKED)} claims: {len(ASKED)} not tested here."


def test_scenarios_that_are_asked_for_are_those_that_are_run() -> None:
    assert set(scenarios()) == {stage.scenario for stage in STAGES}
    assert {stage.scenario for stage in STAGES} <= set(presets())


def test_answers_are_those_of_the_claims_on_the_same_records(cell: Cell) -> None:
    found = study(accuracies(cell, fedavg=0.80, guidance_only=0.78, random_weights=0.70))
    stage = Stage(found, "autoflip-secure sweep falsifier", "digits")
    others = {name: why for name, why in absent().items() if name != "falsifier"}
    by_key = {one.asked.key: one for one in answered({"falsifier": stage}, others)}
    alone = {claim.slug: claim for claim in claims(found)}
    assert by_key["falsifier"].claim == alone["falsifier"]
    assert by_key["falsifier"].claim.answer is Answer.DOES_NOT_HOLD
    assert by_key["map-random-weights"].claim.answer is Answer.HOLDS
    assert by_key["map-random-weights"].command == "autoflip-secure sweep falsifier"
    assert by_key["graceful"].claim.needs == "It was not run."
    assert by_key["compute-sparse"].claim.answer is Answer.NOT_TESTED, "autoflip was not run"


def place(where: str, values: list[float], bound: Bound, places: int = 2) -> Evidence:
    return weigh(where, dict(enumerate(values)), bound, places)


def test_what_decides_is_the_place_with_this_answer_that_is_farthest_from_support() -> None:
    bound = Bound(0.0, 0.0)
    good, better, bad = (place(n, [m + w for w in WOBBLE], bound) for n, m in (("a", 0.1), ("b", 0.2), ("c", -0.1)))
    one = AnsweredClaim(ASKED[0], Claim("x", "X.", "", Answer.HOLDS, (better, good)))
    assert one.deciding is good
    one = AnsweredClaim(ASKED[0], Claim("x", "X.", "", Answer.DOES_NOT_HOLD, (good, bad, better)))
    assert one.deciding is bad


def test_effects_have_both_intervals_and_the_unit() -> None:
    values = [0.01, 0.02, 0.03]
    found = place("IID", values, Bound(0.0, 0.0), places=3)
    own, wider = mean_interval(values), mean_interval(values, 1 - 0.05 / 3)
    assert (found.interval, found.simultaneous) == (own, wider)
    assert own.low is not None
    assert wider.low is not None
    assert own.low > wider.low
    text = effect(found, POINTS)
    assert text == "+2.00 points of accuracy [−0.48, +4.48], all places together [−2.42, +6.42]"
    assert effect(place("IID", values, Bound(0, 0), places=1), POINTS).endswith("[−0.48, +4.48]")
    assert "no interval" in effect(place("IID", [0.1], Bound(0, 0)), POINTS)


@pytest.mark.parametrize(
    ("answer", "seeds", "says"),
    [
        (Answer.HOLDS, [], "supported"),
        (Answer.DOES_NOT_HOLD, [], "refuted"),
        (Answer.NOT_TESTED, [], "not tested here"),
        (Answer.CANNOT_TELL, [12, 40], "inconclusive: about 40 seeds would settle it"),
        (Answer.CANNOT_TELL, [12, None], "inconclusive: no number of seeds found that settles it"),
    ],
)
def test_words(answer: Answer, seeds: list[int | None], says: str) -> None:
    places = tuple(Evidence("x", "", mean_interval([0.0, 1.0]), answer, n) for n in seeds)
    one = AnsweredClaim(ASKED[0], Claim("x", "X.", "", answer, places))
    assert verdict(one) == says
    assert seeds_needed(one) == (40 if seeds == [12, 40] else None)


def test_the_opening_begins_with_the_claim_that_would_refute_the_paper(cell: Cell) -> None:
    found = study(accuracies(cell, fedavg=0.80, guidance_only=0.78))
    others = {name: why for name, why in absent().items() if name != "falsifier"}
    told = opening(answered({"falsifier": Stage(found, "c", "d")}, others))
    assert told[0].startswith("Pruning by the initial map keeps the accuracy")
    assert ": refuted (" in told[0]
    assert not any("pruning by the map keeps accuracy" in one for one in told[1:])


def test_conditions_say_what_it_is_about(cell: Cell) -> None:
    said = conditions(study([cell("fedavg", s) for s in (10, 11, 12)]))
    assert said.startswith(
        "digits; mlp 64-128-64; 20 clients, 5 a round; 8 rounds; SGD at 0.1, 5 local epochs; 3 seeds (10 to 12)"
    )


def changed(run: RunRecord, **update: Any) -> RunRecord:
    return run.model_copy(update=update)


def test_the_mask_itself(cell: Cell) -> None:
    runs = [cell("autoflip", s) for s in range(5)]
    guidance = runs[0].guidance
    assert guidance is not None

    def with_counts(low: int, high: int) -> list[RunRecord]:
        counts = [low] * 10 + [10] * 30 + [high] * 10
        own = [[counts[0] + s % 2, *counts[1:]] for s in range(5)]
        return [
            changed(r, guidance=guidance.model_copy(update={"initial_counts": c}))
            for r, c in zip(runs, own, strict=True)
        ]

    assert heavy_at_zero(study(with_counts(50, 20))).answer is Answer.HOLDS
    heavy = heavy_at_zero(study(with_counts(20, 50)))
    assert heavy.answer is Answer.DOES_NOT_HOLD
    assert heavy.evidence[0].interval.mean == pytest.approx((200 - 500) / 1000, abs=1e-3)

    def gone(share: float) -> list[RunRecord]:
        layers = [
            layer.model_copy(update={"units": 100, "live_units": round(100 * (1 - share))}) for layer in runs[0].layers
        ]
        return [changed(r, layers=layers) for r in runs]

    assert whole_units(study(gone(0.2) + gone(0.2)[:0])).answer is Answer.CANNOT_TELL, "five alike are too few"
    mixed = [changed(r, layers=gone(0.2 + 0.01 * (s % 2))[0].layers) for s, r in enumerate(runs)]
    assert whole_units(study(mixed)).answer is Answer.HOLDS

    def falling(by: float) -> list[RunRecord]:
        return [
            changed(
                r,
                rounds=[
                    e.model_copy(update={"density": 0.5 - (by + WOBBLE[r.seed]) * (e.round == 8)}) for e in r.rounds
                ],
            )
            for r in runs
        ]

    assert refinement(study(falling(0.1))).answer is Answer.HOLDS
    assert refinement(study(falling(-0.05))).answer is Answer.DOES_NOT_HOLD


@pytest.mark.parametrize(
    ("theirs", "answer"), [(0.79, Answer.HOLDS), (0.83, Answer.DOES_NOT_HOLD), (0.805, Answer.CANNOT_TELL)]
)
def test_a_rival(cell: Cell, theirs: float, answer: Answer) -> None:
    own = [cell("autoflip", s, accuracy=0.80 + 0.02 * s + WOBBLE[s]) for s in range(5)]
    other = [
        cell("fedavg", s, accuracy=theirs + 0.02 * s).model_copy(update={"algorithm": "prunefl"}) for s in range(5)
    ]
    found = {claim.slug: claim for claim in rivals(study(own + other))}
    assert found["level-prunefl"].answer is answer
    assert found["level-fedmask"].answer is Answer.NOT_TESTED


def test_a_claim_that_the_table_forgets_is_noticed() -> None:
    slugs = {claim.slug for claim in portfolio._unasked()}
    assert slugs == {asked.slug for asked in ASKED if asked.slug}


def test_units_share_an_axis_only_by_name() -> None:
    assert Asked("a", "b", "c", "d", "e").unit is POINTS
    assert POINTS.axis == "points of accuracy"


@pytest.mark.parametrize(
    ("own", "theirs", "answer"),
    [
        ((2, 2, 2, 2, 2), (6, 4, 6, 4, 6), Answer.HOLDS),
        ((6, 6, 4, 6, 6), (4, 4, 4, 4, 4), Answer.DOES_NOT_HOLD),
        ((2, 4, 6, 2, 4), (4, 2, 4, 6, 2), Answer.CANNOT_TELL),
        ((2, 2, 2, 2, 2), (None, 6, None, 6, None), Answer.HOLDS),
    ],
)
def test_a_rival_on_the_way(cell: Cell, own: tuple[int, ...], theirs: tuple[int | None, ...], answer: Answer) -> None:
    """Evaluated every second round; FedAvg ends at 0.8, so the goal is 0.72."""

    def reaching(name: str, seed: int, first: int | None, kind: str = "fedavg") -> RunRecord:
        run = cell(kind, seed)
        rounds = [
            e.model_copy(
                update={
                    "test_accuracy": None if e.round % 2 else 0.8 if first is not None and e.round >= first else 0.5
                }
            )
            for e in run.rounds
        ]
        return run.model_copy(update={"algorithm": name, "rounds": rounds})

    runs = [
        run
        for seed in range(5)
        for run in (
            cell("fedavg", seed).model_copy(update={"rounds": reaching("fedavg", seed, 0).rounds}),
            reaching("autoflip", seed, own[seed], "autoflip"),
            reaching("prunefl", seed, theirs[seed]),
        )
    ]
    found = {claim.slug: claim for claim in rivals(study(runs))}
    claim = found["faster-prunefl"]
    assert claim.answer is answer
    saved = [float((b or 8) - a) for a, b in zip(own, theirs, strict=True)]
    (evidence,) = claim.evidence
    assert evidence.values == pytest.approx(saved)
    assert evidence.interval.mean == pytest.approx(sum(saved) / 5)
    assert ("of PruneFL never got there" in evidence.text) == (None in theirs)
    assert found["faster-eflprune"].answer is Answer.NOT_TESTED
