"""What several runs on the same data cost together: the privacy budget of a sweep, or of a whole study."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from autoflip_secure.records.privacy import Observer, Relation


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class BudgetLine(_Record):
    """Everything that one observer saw of the runs that protect the same thing."""

    observer: Observer
    unit: Literal["sample", "client"]
    relation: Relation
    cells: int  # that are counted here
    attempts: int  # of them, under different conditions
    epsilon: float | None  # of the client that pays most; None: no finite bound, or no guarantee
    reason: str  # "", or why nothing is proven
    clients: list[tuple[int, float]]  # epsilon of each, where all runs divide the data alike; else empty


class Budget(_Record):
    """The sum for one data set."""

    data: str  # as the scenarios name it
    delta: float
    cells: int  # private cells that were begun
    bare: int  # cells without privacy: what they released has no bound
    divisions: int  # ways in which the data were divided among clients (seeds, partitions)
    lines: list[BudgetLine]
    notes: list[str]


class ClientLine(_Record):
    """What one client released to one observer, within one division of the data."""

    data: str
    division: str  # of the data among clients: who is client 3 in one is somebody else in another
    client: str  # a number or a name; "every" and "any other" where the ledger does not tell clients apart
    observer: Observer
    unit: Literal["sample", "client"]
    relation: Relation
    runs: int  # that released something to this observer
    releases: int
    released: str  # the mechanisms, in words
    epsilon: float | None  # None: no finite bound, or no guarantee
    delta: float
    reason: str  # "", or why nothing is proven
