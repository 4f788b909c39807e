"""Entries of an invented board with two settings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autoflip_secure.records.board import BoardEntry, BoardTerms

SEEDS = [*range(10, 20)]
SHARED = {"scope": 0.2, "clients": None, "window": {"first": 1, "last": None}, "explorers": True}
CARD = {"knowledge": "rows", "means": ["update"], "goal": "untargeted", "memory": False}
TERMS = BoardTerms(
    name="board-invented-1",
    settings=[{"partition": {"kind": "iid"}}, {"partition": {"kind": "dirichlet", "alpha": 0.3}}],
    attacks=[{"kind": "ipm", "epsilon": 0.5, **SHARED}, {"kind": "mimic", **SHARED}],
    shared=SHARED,
    suites=["standard-1", "adaptive"],
    seeds=SEEDS,
    outcome="last",
    candidates=[],
    tuning_seeds=[],
)  # fmt: skip


def around(mean: float) -> list[float]:
    """Accuracies over the seeds: other noise for another mean, none on average."""
    noise = np.random.default_rng(round(1e6 * mean)).normal(0, 0.01, len(SEEDS))
    return (mean + noise - noise.mean()).tolist()


def entry(name: str, means: Sequence[Mapping[str | None, float]], **changed: Any) -> BoardEntry:
    """``means``: of each setting, attack (None: nobody attacks) -> mean accuracy; the attacks are the board's."""
    kinds = [one["kind"] for one in TERMS.attacks]
    document = {
        "board": TERMS.name, "terms": TERMS.digest, "defence": name,
        "algorithm": {"name": name, "pruner": {"kind": "none"}, "aggregator": {"kind": "median", "of": name}},
        "outside": [], "data": "ab" * 16, "sources": {}, "versions": {"torch": "2.13.0"}, "bits": "stack",
        "needs": {"needs": "every update"}, "parameters": 100, "seeds": SEEDS, "privacy": [],
        "attacks": [
            {
                "config": one,
                "threat": {**CARD, "kind": one["kind"]},
            }
            for one in TERMS.attacks
        ],
        "settings": [
            {
                "setting": number, "tried": [],
                "runs": [
                    {
                        "attack": None if kind is None else kinds.index(kind), "accuracies": around(own[kind]),
                        "digests": ["0" * 16] * len(SEEDS),
                    }
                    for kind in (None, *kinds)
                ],
                "costs": {
                    "uplink_bytes": 2e6, "downlink_bytes": 1e6, "flops_dense": 2e9, "flops_sparse": 1e9,
                    "flops_compacted": None,
                },
            }
            for number, own in enumerate(means)
        ],
    }  # fmt: skip
    return BoardEntry.model_validate({**document, **changed})
