"""Keys for explorers that explore again and for measures: their names of cells, and what they are refused with."""

from __future__ import annotations

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve

AGAIN = "exploration: {every: 5}"
OF_ROUNDS = "guidance: {matrix: per_round}"


def cells(text: str) -> list[str]:
    return [cell.key for cell in resolve(Document.parse(text, "x.yaml")).cells]


def test_at_their_defaults_they_are_in_no_name() -> None:
    plain = cells("name: x\nseeds: [1]")
    assert cells("name: x\nseeds: [1]\nmeasures: []\nexploration: {every: null}") == plain
    assert cells("name: x\nseeds: [1]\nguidance: {matrix: once}") == plain
    assert cells(f"name: x\nseeds: [1]\n{AGAIN}") != plain
    assert cells(f"name: x\nseeds: [1]\n{OF_ROUNDS}") != plain
    assert cells("name: x\nseeds: [1]\nmeasures: [stability]") != plain


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            f"{AGAIN}\nprivacy: {{kind: sample_level, target_epsilon: 8}}",
            "counts one exploration; leave it out, or set privacy: none",
        ),
        (f"{AGAIN}\nprivacy: {{kind: client_level, noise_multiplier: 1}}", "counts one exploration"),
        (f"{AGAIN}\nalgorithm: taylor_x\n", "taylor_x"),
        (
            f"{AGAIN}\nalgorithm: {{name: mine, pruner: taylor, aggregator: agreement}}",
            "pruner taylor makes nothing of a later exploration; leave it out, or use one that draws its mask anew: "
            "none, threshold, budget, random_weights",
        ),
        (f"{AGAIN}\nalgorithm: fedlex", "local rule fedlex is sent what was explored before round 1"),
        ("exploration: {every: 0}", "exploration.every"),
        (
            f"{OF_ROUNDS}\nprivacy: {{kind: client_level, noise_multiplier: 1}}",
            "the mask tells everybody who took part in a round, and privacy may rest on that being unknown; set",
        ),
        (f"{OF_ROUNDS}\nprivacy: {{kind: sample_level, target_epsilon: 8}}", "per_round: the mask tells everybody"),
        (
            f"{OF_ROUNDS}\nexploration: {{method: linear}}\nsecure_sum: {{parties: 3}}",
            "needs what single explorers found, and secure_sum shows the server only sums; set matrix: once",
        ),
        (
            f"{OF_ROUNDS}\nalgorithm: {{name: mine, pruner: taylor, aggregator: agreement}}",
            "per_round: the pruner taylor makes nothing of a later exploration",
        ),
        ("measures: [speed]", "measures"),
        ("measures: [stability, stability]", "measures"),
        (
            "measures: [stability]\nprivacy: {kind: client_level, noise_multiplier: 1}",
            "is computed from single clients' updates, which privacy hides",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as found:
        cells(text)
    assert says in str(found.value)
    assert "x.yaml:" in str(found.value)


@pytest.mark.parametrize(
    "name", ["fedavg", "autoflip", "autoflip_plus", "agreement_only", "random_weights", "guidance_only"]
)
def test_what_explores_by_itself_may_draw_again_and_what_does_not_is_left_alone(name: str) -> None:
    assert cells(f"{AGAIN}\nalgorithm: {name}")
    assert cells(f"{OF_ROUNDS}\nalgorithm: {name}")
