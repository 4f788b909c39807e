"""Baselines as earlier versions wrote them: one object an entry, by its key; without a checksum before it was one."""

from typing import Any

from autoflip_secure.reports.gate.baseline import Baseline


def older(held: Baseline, schema: int) -> dict[str, Any]:
    """The document of format 1, 2 or 3, without its checksum."""
    document = held.model_dump(mode="json", exclude={"choice", "inputs"}) | {"baseline_schema": schema}
    if schema < 3:
        del document["outcome"]
    for entry in document["entries"].values() if schema == 1 else ():
        del entry["terms"]
    return document
