"""What ``autoflip-secure list`` shows: derived from the tables, one line each from the docstrings."""

from __future__ import annotations

from autoflip_secure.interfaces import Plugin
from autoflip_secure.secure_sum import SecureSumConfig
from scenarios.documents import Document
from scenarios.loading import presets
from scenarios.secure_sums import needed
from scenarios.tables import AGGREGATORS, ALGORITHMS, ATTACKS, DATASETS, MODELS, PARTITIONS, PRUNERS


def catalogue() -> dict[str, dict[str, str]]:
    """Family -> name -> one line."""
    plugins: dict[str, dict[str, type[Plugin]]] = {
        "attacks": {**ATTACKS},
        "aggregators": {**AGGREGATORS},
        "pruners": {**PRUNERS},
        "datasets": {**DATASETS},
        "partitions": {**PARTITIONS},
        "models": {**MODELS},
    }
    families = {
        family: {kind: (cls.__doc__ or "").strip().splitlines()[0] for kind, cls in table.items()}
        for family, table in plugins.items()
    }
    families["algorithms"] = {name: algorithm.description for name, algorithm in ALGORITHMS.items()}
    families["secure_sum"] = {
        **{name: field.description or "" for name, field in SecureSumConfig.model_fields.items()},
        **{f"updates of {kind}": needed(cls) for kind, cls in AGGREGATORS.items()},
    }
    families["presets"] = {
        name: " ".join(str(Document.read(path).data.get("question", "")).split()) for name, path in presets().items()
    }
    return families
