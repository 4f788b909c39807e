"""Models that keep numbers from batch to batch: what they keep is sent and tested, or they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_sweeps import sweep_of

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.plan import Plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check

REFUSED = {
    "Unsaved": r"Unsaved: its 'mean' changes while it trains and counts when it is tested, .*register_buffer",
    "Plain": r"Plain: its 'mean' changes while it trains and counts",
    "Counts": r"Counts: its 'seen' changes while it trains and counts .* with float values",
    "Attached": r"Attached: its 'mean' carries the gradients of one batch into the next, .*detach\(\)",
    "WritesInputs": r"WritesInputs writes into its inputs, .*x = x - 0\.5",
    "first_in_place": r"Sequential writes into its inputs, .*inplace=False",
    "Empty": r"Empty: more has shape \(0, 8\), so nothing in it can be trained; leave it out",
}


@pytest.fixture(autouse=True)
def nets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def work(name: str) -> Plan:
    return sweep_of(f"keeping_nets:{name}", rounds=3)


@pytest.mark.parametrize(("name", "message"), REFUSED.items(), ids=REFUSED)
def test_what_would_be_lost_or_would_change_the_data_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        check(work(name).blocks)
    assert "\n" not in str(refused.value)


def test_a_buffer_that_is_given_another_tensor_has_the_numbers_of_one_that_is_changed_in_place() -> None:
    curves = []
    for name in ("Centred", "Assigned"):
        (block,) = work(name).blocks
        check([block])
        (record,) = run_block(block)
        curves.append([(r.test_loss, r.train_loss, r.step_norm) for r in record.rounds])
    assert curves[0] == curves[1]
