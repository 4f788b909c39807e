"""Cells with privacy, and their ledgers by observer."""

from __future__ import annotations

from typing import Any

import torch

from autoflip_secure.defenses.privacy.accountants import counted, prv_epsilon, rdp_epsilon
from autoflip_secure.defenses.privacy.pld import pld_epsilon
from autoflip_secure.records.privacy import Guarantee, PrivacyRecord, Release
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.scenarios.running.build import CellBuilder


def scenario(**settings: Any) -> LoadedScenario:
    base: dict[str, Any] = {
        "clients": 10, "cohort": 4, "rounds": 6, "seeds": [31], "model": {"kind": "mlp", "hidden": [8]},
        "training": {"batch_size": 16, "epochs": 2}, "exploration": {"epochs": 3}, "partition": "iid",
    }  # fmt: skip
    return resolve(Document("here", {**base, **settings}))


def cell_of(**settings: Any) -> Any:
    loaded = scenario(**settings)
    return CellBuilder().cell(loaded.cells[0], loaded.cells[0], torch.device("cpu"))


def by_observer(record: PrivacyRecord | None) -> dict[str, Guarantee]:
    assert record is not None
    return {g.observer: g for g in record.guarantees}


def three(found: list[Release], delta: float) -> list[float]:
    """Epsilon of some releases by every accountant."""
    count = counted(found)
    assert count is not None
    bounds = [accountant(count, delta) for accountant in (rdp_epsilon, prv_epsilon, pld_epsilon)]
    assert None not in bounds
    return [bound for bound in bounds if bound is not None]


CENTRAL = {"kind": "client_level", "noise_multiplier": 2.0}
