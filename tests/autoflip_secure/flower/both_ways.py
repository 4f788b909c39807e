"""The same run by the engine and over Flower."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from in_process import Answer, InProcess
from seen_rounds import Seen

from autoflip_secure.federation.engine import run_cells
from autoflip_secure.flower import AutoflipStrategy, Federation, client_app
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.running.build import CellBuilder


def by_engine(federation: Federation) -> tuple[RunRecord, Seen]:
    builder, kept = CellBuilder(), Seen()
    cell = builder.cell(federation.spec, federation.spec, torch.device("cpu"))
    [record] = run_cells([cell], builder.trainer(federation.spec), watch=kept)
    return record, kept


def over_flower(
    federation: Federation,
    apps: Iterable[Answer] | None = None,
    each_round: Callable[[int, InProcess], None] | None = None,
    **options: Any,
) -> tuple[AutoflipStrategy, InProcess]:
    """Flower's own loop; ``each_round`` is called with its number and the grid before a round is configured."""
    strategy = AutoflipStrategy(federation, **options)
    grid = InProcess(apps or [client_app(federation)] * federation.clients)
    if each_round is not None:
        plain = strategy.configure_train

        def watched(number: int, *rest: Any) -> Any:
            each_round(number, grid)
            return plain(number, *rest)

        strategy.configure_train = watched  # type: ignore[method-assign]
    strategy.start(grid, strategy.initial_arrays(), num_rounds=federation.rounds)
    return strategy, grid


def bytes_of(grid: InProcess) -> tuple[int, int]:
    """Of all arrays that really travelled: up, and down."""

    def length(message: Any) -> int:
        records = message.content.array_records.values() if message.has_content() else ()
        return sum(len(array.data) for record in records for array in record.values())

    return sum(length(answer) for _, answer in grid.seen), sum(length(question) for question, _ in grid.seen)
