"""A small sweep of a model from a file, for tests of what models may be and do."""

from __future__ import annotations

from typing import Any

from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan

_TEXT = """
clients: 4
cohort: 2
rounds: {rounds}
training: {{epochs: 1, batch_size: {batch}}}
exploration: {{epochs: 1, explorers: 2}}
data: {{kind: digits, train_samples: 100, test_samples: 50}}
seeds: [3]
algorithm: autoflip
model: '{model}'
"""


def sweep_of(model: str, rounds: int = 2, batch: int = 5, **more: Any) -> Plan:
    """Of ``model``, FILE:NAME; ``more``: other keys of the scenario."""
    text = _TEXT.format(model=model, rounds=rounds, batch=batch)
    text += "".join(f"{key}: {value}\n" for key, value in more.items())
    return plan(resolve(Document.parse(text, "s.yaml"), ()))
