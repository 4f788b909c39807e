"""A federation small enough to run many of."""

from __future__ import annotations

from typing import Any

from autoflip_secure.flower import Federation

SCENARIO: dict[str, Any] = {
    "data": "digits",
    "model": {"kind": "mlp", "hidden": [12]},
    "clients": 7,
    "cohort": 4,
    "rounds": 3,
    "training": {"lr": 0.2, "batch_size": 16, "epochs": 2},
    "exploration": {"epochs": 2},
    "seeds": [3],
}


def agreed(**changes: Any) -> Federation:
    return Federation.of({**SCENARIO, **changes})
