"""Hidden scores in scenarios: what is refused, the same run again, and what the record says was seen."""

from collections.abc import Iterator

import pytest
from secure_scenarios import blocks_of, run

from autoflip_secure.errors import InputError
from scenarios.secure_sums import Crews, crews_for
from scenarios.sweep import Block

BASE = """
clients: 8
cohort: 4
rounds: 4
attack: {kind: gaussian_noise, sigma: 0.5}
seeds: [1]
secure_sum: {parties: 2, updates: true, scores: hidden}
algorithm: {name: own, pruner: threshold, aggregator: {kind: agreement, statistics: [profile, size, direction]}}
"""


def blocks(*overrides: str) -> tuple[Block, ...]:
    return blocks_of(BASE, *overrides)


@pytest.fixture(scope="module")
def crews() -> Iterator[Crews]:
    with crews_for(blocks()) as crews:
        yield crews


def test_a_run_repeats_itself_and_filters_without_telling(crews: Crews) -> None:
    (record,) = run(blocks(), crews).values()
    (again,) = run(blocks(), crews).values()
    assert record.numbers() == again.numbers()  # masks and challenges are drawn anew, and change nothing
    assert record.secure_sum is not None
    phase = record.secure_sum.phases[-1]
    assert (phase.phase, phase.batches, phase.numbers_per_client) == ("updates", 4, 0)
    assert phase.sums <= 2 * 4
    assert phase.largest_error is not None
    assert 0 < phase.largest_error < 1e-5
    assert "no score" in record.secure_sum.server_sees[-1]
    bad = [
        score for entry in record.rounds for score, is_bad in zip(entry.scores or [], entry.bad, strict=True) if is_bad
    ]
    assert bad
    assert max(bad) == 0
    named = [event for event in record.events if "gave a proof that does not hold" in event]
    assert len(named) == len(bad)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("secure_sum.updates=false", "the updates are seen anyway"),
        ("algorithm=fedavg", "there are no scores to hide"),
        ("algorithm.aggregator={kind: radial, noise: norm}", "only agreement is a test"),
        ("algorithm.aggregator={kind: agreement}", "'landscape' cannot be proved on shares"),
        ("algorithm.aggregator.clip=null", "proofs need a largest norm"),
        ("privacy={kind: client_level, clip: 1.0, noise_multiplier: 1.0}", "sends no noise"),
    ],
)
def test_what_cannot_be_hidden_is_refused_with_the_reason(change: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"secure_sum.scores.*{reason}"):
        blocks(change)
