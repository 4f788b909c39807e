"""What a scenario says about accountants: noise follows from it alone, whatever is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from autoflip_secure.defenses.privacy import pld
from autoflip_secure.defenses.privacy.pld import pld_epsilon
from autoflip_secure.errors import InputError
from autoflip_secure.records.privacy import ClientEpsilon
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.running import privacy_planning as privacy
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger

CROWD: dict[str, Any] = {
    "clients": 20, "cohort": 5, "rounds": 30, "seeds": [31], "algorithm": "fedavg", "partition": "iid",
    "model": {"kind": "mlp", "hidden": [8]},
}  # fmt: skip


def cell_of(**mechanism: Any) -> Any:
    loaded = resolve(Document("here", {**CROWD, "privacy": {"kind": "client_level", **mechanism}}))
    return CellBuilder().cell(loaded.cells[0], loaded.cells[0], torch.device("cpu"))


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (pld, privacy):
        monkeypatch.setattr(module, "installed", lambda: False)
    pld_epsilon.cache_clear()
    yield
    pld_epsilon.cache_clear()


def test_the_ledger_of_a_fixed_cohort_has_the_tightest_of_three() -> None:
    """5 of 20, noise twice the clip norm, 30 rounds: 12.69 was printed."""
    record = ledger(cell_of(noise_multiplier=2.0))
    assert record is not None
    (client,) = next(g.clients for g in record.guarantees if g.observer == "public")
    assert client.rdp is not None
    assert client.prv is not None
    assert client.pld is not None
    assert client.pld < client.prv < client.rdp < 9
    assert record.epsilon("public") == client.pld == pytest.approx(6.127, abs=1e-3)


def test_without_the_library_the_ledger_has_the_other_two(not_installed: None) -> None:
    record = ledger(cell_of(noise_multiplier=2.0))
    assert record is not None
    (client,) = next(g.clients for g in record.guarantees if g.observer == "public")
    assert client.pld is None
    assert record.epsilon("public") == client.prv


def noise_for(accountant: str) -> float:
    return noise_of(cell_of(target_epsilon=4.0, accountant=accountant))


def noise_of(cell: Any) -> float:
    return float(cell.noise_multipliers[0])


def test_each_accountant_keeps_the_target_and_a_tighter_one_adds_less_noise() -> None:
    cells = [cell_of(target_epsilon=4.0, accountant=accountant) for accountant in ("rdp", "prv", "pld")]
    noise = [noise_of(cell) for cell in cells]
    assert noise[0] > noise[1] >= noise[2]
    for cell in cells:
        record = ledger(cell)
        assert record is not None
        assert (record.epsilon("public") or 9) <= 4.0


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_noise_is_the_same_whether_or_not_the_library_is_there(accountant: str, request: pytest.FixtureRequest) -> None:
    before = noise_for(accountant)
    request.getfixturevalue("not_installed")
    assert noise_for(accountant) == before


def test_asking_for_what_is_not_installed_says_how_to_get_it(not_installed: None) -> None:
    with pytest.raises(InputError, match=r"autoflip-secure\[accounting\].*or measure .* with accountant: prv or rdp"):
        noise_for("pld")
    assert cell_of(noise_multiplier=2.0, accountant="pld").noise_multipliers[0] == 2.0


def test_a_record_from_before_is_read() -> None:
    old = {"client": None, "delta": 1e-3, "rdp": 2.0, "prv": 1.5, "training": None}
    assert ClientEpsilon.model_validate(old).epsilon == 1.5
    assert ClientEpsilon.model_validate({**old, "pld": 1.4}).epsilon == 1.4
