"""Pruners that have clients send something before training, in scenarios: secure, refused, from outside, audited."""

from __future__ import annotations

from pathlib import Path

import pytest
from secure_scenarios import blocks_of, run

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.audits.sweep_audit import audit_scenario
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.parties import party_pool

BASE = """
clients: 6
cohort: 3
rounds: 2
seeds: [1]
algorithm: {name: own, pruner: {kind: snip, density: 0.2}, aggregator: mean}
"""
SECURE = "sweep: {product: {secure_sum: [none, {parties: 2, updates: true}]}}"
OWN = '''
from autoflip_secure.interfaces import Channel, Pruner


class Before(Pruner):
    """Asks before training, and cuts where clients disagree."""

    prepares = True

    def wants(self, asked):
        return (Channel("signs", asked.layout.size, bits=1),) if asked.round == 0 else ()

    def measure(self, channel, view):
        return (view.gradients() > 0).float()

    def mask(self, view):
        if view.round > 0:
            return view.mask
        assert "signs" in view.channels
        return view.mask & (((view.channels["signs"].mean - 0.5).abs() > 0.3) | ~view.layout.prunable)
'''


@pytest.mark.slow
def test_gradients_in_shares_make_the_same_mask() -> None:
    work = blocks_of(BASE + SECURE)
    with party_pool(work) as pool:
        plain, secure = run(work, pool).values()
    assert plain.digests == secure.digests
    assert secure.final_loss == pytest.approx(plain.final_loss, abs=1e-5)
    assert plain.rounds[0].density == pytest.approx(0.2, abs=0.01)
    found = secure.secure_sum
    assert found is not None
    assert found.server_sees == ["updates: their weighted sum", "gradient: their weighted sum"]
    channels, updates = found.phases
    assert (channels.phase, channels.batches, channels.rows, channels.sums) == ("channels", 1, 6, 1)
    assert secure.preparation is not None
    assert secure.preparation.channels == {"gradient": channels.client_bytes}
    assert secure.costs.bytes.uplink_values == updates.client_bytes + channels.client_bytes


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["privacy.kind=sample_level"],
            "the pruner snip has clients send gradient beside their update, measured on samples",
        ),
        (["privacy.kind=client_level"], "give algorithm.pruner.bound, use another pruner, or privacy: none"),
    ],
)
def test_what_is_not_protected_is_refused_before_anything_runs(overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(blocks_of(BASE, *overrides))
    check(blocks_of(BASE, "privacy.kind=client_level", "algorithm.pruner.bound=0.1"))


def test_an_audit_refuses_what_its_attacks_do_not_look_at(tmp_path: Path) -> None:
    work = plan(
        resolve(
            Document.parse(BASE + "data: digits\nprivacy: client_level\n", "s.yaml"), ["algorithm.pruner.bound=0.1"]
        )
    )
    with pytest.raises(InputError, match="its pruner snip has all clients send what they measure before training"):
        audit_scenario(work, tmp_path, lambda _: None)


def test_a_pruner_from_outside_may_prepare_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_before.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    (work,) = blocks_of(BASE, "algorithm.pruner={kind: 'own_before:Before'}", "attack.kind=sign_flip")
    check([work])
    (record,) = run_block(work)
    size = 64 * 10 + 10 + 10 * 10 + 10
    assert record.costs.channels == {"signs": 6 * (10 + (size + 7) // 8)}
    assert 0 < record.rounds[0].density < 1
