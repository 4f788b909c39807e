"""Attacks that know a defence, as the defence itself names them: by kind and options, since it knows no attack's code.

They are what the suite ``adaptive`` of a scenario runs against it. The generic one (:data:`GENERIC`), which tries what
any server would make of its rows, belongs to every algorithm and need not be named.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

Known = tuple[Mapping[str, Any], ...]


def _attack(kind: str, **options: Any) -> Mapping[str, Any]:
    return MappingProxyType({"kind": kind, **options})


GENERIC: Final = _attack("greedy_oracle", stealth=None)
STEALTHY: Final = _attack("greedy_oracle", stealth=0.9)
OF_DIRECTIONS: Final[Known] = (
    STEALTHY,
    _attack("score_evasion", kept=1.0, norm=2.0),
    _attack("anchor_inflation", scale=1.0),
)
"""Against scores made of cosines with public directions, calibrated on what explorers send."""
OF_MEMORY: Final[Known] = (*OF_DIRECTIONS, _attack("memory_evasion", score=0.9, norm=2.0, trials=10))
"""The same against a score of the cosine with what the server remembers of accepted updates."""
OF_LAYERS: Final[Known] = (
    *OF_DIRECTIONS,
    _attack("layer_trick", norm=2.0, tiny=0.001),
    _attack("boosted_flip", share=1.0),
)
"""The same against a mean over layers of the cosine with the weights."""
OF_LANDSCAPE: Final[Known] = tuple(_attack("landscape_lie", lie=lie, trials=12) for lie in ("anti", "spike"))
"""Against masks made of what explorers say of the landscape."""
OF_REFINEMENT: Final[Known] = (*OF_LANDSCAPE, _attack("mask_collusion", does="cancel", share=0.1))
"""The same against masks that are refined by how far clients agree on each weight."""
OF_COORDINATES: Final[Known] = (_attack("fang", against="trimmed_mean", b=2.0, neighbours="n-f-1", halvings=20),)
"""Against rules that judge every coordinate by itself."""
OF_DISTANCES: Final[Known] = (_attack("fang", against="krum", b=2.0, neighbours="n-f-1", halvings=20),)
"""Against rules that choose rows by the distances between them."""
OF_LAST_STEP: Final[Known] = (_attack("rop", z=1.0, unit="median", location=1.0, reference=0.9, angle=270.0),)
"""Against rules that begin at the last step."""
OF_RECALL: Final[Known] = (_attack("step_reversal", strength=1.0),)
"""Against steps in which rows of absent clients are."""
OF_CLUSTERS: Final[Known] = (STEALTHY, _attack("opt_alie", trials=20, low=0.05, high=20.0))
"""Against rules that admit the cluster of the majority: what harms most of what is admitted."""
OF_HISTORIES: Final[Known] = (_attack("decorrelated", scale=1.0, noise=3.0),)
"""Against rules that tell sybils by their being alike."""
OF_ROOT: Final[Known] = (_attack("root_evasion", norm=1.0),)
"""Against rules that hold rows against the update of clean data at the server."""

MADE_FOR_DEFENCES: Final = frozenset(
    str(attack["kind"])
    for known in (
        OF_MEMORY,
        OF_LAYERS,
        OF_REFINEMENT,
        OF_COORDINATES,
        OF_DISTANCES,
        OF_LAST_STEP,
        OF_RECALL,
        OF_CLUSTERS,
        OF_HISTORIES,
        OF_ROOT,
    )
    for attack in known
)
"""Kinds of all of these attacks: whoever has run none of them has met fixed attacks only."""
