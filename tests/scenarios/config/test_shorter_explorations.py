"""Keys for explorers that send less: their bounds, names of cells, and what they are refused with."""

from __future__ import annotations

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve

SECURE = "secure_sum: {parties: 3}\nexploration: {method: linear, upload_%s}"


def cells(text: str) -> list[str]:
    return [cell.key for cell in resolve(Document.parse(text, "x.yaml")).cells]


def test_at_their_defaults_they_are_in_no_name() -> None:
    plain = cells("name: x\nseeds: [1]")
    assert cells("name: x\nseeds: [1]\nexploration: {upload_bits: 32, upload_share: 1}") == plain
    assert cells("name: x\nseeds: [1]\nexploration: {upload_bits: 16}") != plain
    assert cells("name: x\nseeds: [1]\nexploration: {upload_share: 0.5}") != plain


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SECURE % "bits: 16", "exploration.upload_bits = 16: saves nothing in shares"),
        (SECURE % "share: 0.5", "exploration.upload_share = 0.5: saves nothing in shares"),
        ("exploration: {upload_bits: 8}", "exploration.upload_bits"),
        ("exploration: {upload_share: 0}", "exploration.upload_share"),
        ("exploration: {upload_share: 1.5}", "exploration.upload_share"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as found:
        cells(f"{text}\nalgorithm: guidance_only")
    assert says in str(found.value)
    assert "x.yaml:" in str(found.value)


def test_what_explores_nothing_is_left_alone_and_private_runs_go() -> None:
    assert cells("secure_sum: {parties: 3, updates: true}\nexploration: {upload_bits: 16}\nalgorithm: fedavg")
    for privacy in ("{kind: sample_level, target_epsilon: 8}", "{kind: client_level, noise_multiplier: 1}"):
        assert cells(f"privacy: {privacy}\nexploration: {{upload_share: 0.5}}\nalgorithm: guidance_only")
