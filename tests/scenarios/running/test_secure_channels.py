"""Reports of clients through real parties: the same masks as in the open, and a record of what was seen and paid."""

from __future__ import annotations

import pytest
from secure_scenarios import blocks_of, run

from autoflip_secure.scenarios.running.parties import party_pool

BASE = """
clients: 6
cohort: 3
rounds: 3
partition: {kind: pathological, classes_per_client: 2}
seeds: [1]
algorithm: {name: own, pruner: {kind: taylor, every: 1, until: 1.0}, aggregator: mean}
sweep: {product: {secure_sum: [none, {parties: 2, updates: true}]}}
"""


def test_reports_in_shares_cut_the_same_units() -> None:
    work = blocks_of(BASE)
    with party_pool(work) as pool:
        plain, secure = run(work, pool).values()
    assert plain.digests == secure.digests
    assert [one.density for one in plain.rounds] == [one.density for one in secure.rounds]
    assert plain.rounds[-1].density < 1
    assert secure.final_loss == pytest.approx(plain.final_loss, abs=1e-5)
    assert plain.costs.channels == {"units": 3 * 3 * (10 + 4 * 10)}  # rounds, clients, a float for each of ten units
    found = secure.secure_sum
    assert found is not None
    assert found.server_sees == ["updates: their weighted sum", "units: their weighted sum"]
    updates, channels = found.phases
    assert (channels.phase, channels.batches, channels.rows, channels.sums) == ("channels", 3, 9, 3)
    assert channels.numbers_per_client == 0
    assert channels.largest_error is not None
    assert channels.largest_error < 1e-9
    assert secure.costs.channels == {"units": channels.client_bytes}
    assert secure.costs.bytes.uplink_values == updates.client_bytes + channels.client_bytes
