"""What a run asks of a pre-aggregator from outside, on small numbers; see :mod:`.plugin_trial`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autoflip_secure.federation.outside_answers import is_mixing
from autoflip_secure.interfaces import ClientRows, Mixture, PreAggregator, RowsView
from autoflip_secure.scenarios.running.trial_judge import Judge
from autoflip_secure.seeds import Purpose, generator

if TYPE_CHECKING:
    from autoflip_secure.scenarios.running.plugin_trial import Stage


def try_pre_aggregator(judge: Judge, pre_aggregator: PreAggregator, stage: Stage) -> None:
    """Rows of a whole cohort, and one alone: who sends what cannot be used is left out."""
    if pre_aggregator.remembers:
        _try_memory(judge, pre_aggregator, stage)
    for count in dict.fromkeys((min(stage.cohort, stage.clients), 1)):
        rows = stage.rows(count)
        seen = stage.layout.of_trained(rows)

        def ask(rows: Tensor = rows, seen: Tensor = seen) -> Mixture:
            f = pre_aggregator.assumed(len(rows), None)
            draws = generator(0, Purpose.PRE_AGGREGATION, 1, 0)
            return pre_aggregator.mix(RowsView(rows, seen, f, draws))

        found = judge.ask(f"mix of {count} rows", ask, rows, seen)
        if not isinstance(found, Mixture):
            raise judge.refuse(f"mix gives a {type(found).__name__}, expected a Mixture")
        expected = judge.ask(f"rows_after({count})", partial(pre_aggregator.rows_after, count))
        if type(expected) is not int or expected < 1:
            raise judge.refuse(f"rows_after({count}) gives {expected!r}, expected a whole number of at least 1")
        judge.tensor("mix: rows", found.rows, rows.new_empty(expected, rows.shape[1]))
        mixing = judge.tensor("mix: mixing", found.mixing, rows.new_empty(expected, count))
        if not is_mixing(mixing):
            raise judge.refuse("mix: mixing should be non-negative, each row of it of a sum above 0 and at most 1")
        if not bool(found.rows.isfinite().all()):
            raise judge.refuse("mix: rows should be finite")
        if pre_aggregator.keeps_clients and expected != count:
            raise judge.refuse(
                f"mix gives {expected} rows for {count} and has keeps_clients = True; set `keeps_clients: "
                "ClassVar[bool] = False`"
            )


def _try_memory(judge: Judge, pre_aggregator: PreAggregator, stage: Stage) -> None:
    """Two rounds: what is recalled begins with the round's own clients, and the memory before it is left as it was."""
    count = min(stage.cohort, stage.clients)
    rows, alive = stage.rows(count), torch.ones(stage.layout.size, dtype=torch.bool)
    memory: Any = judge.ask("start", partial(pre_aggregator.start, stage.clients))
    for first in (0, stage.clients - count):
        here = ClientRows(torch.arange(first, first + count), rows, torch.ones(count), torch.zeros(count))
        answer = judge.ask("recall", partial(pre_aggregator.recall, memory, here, alive), rows, here.clients)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], ClientRows)):
            raise judge.refuse("recall should give ClientRows and the memory after the round")
        found, memory = answer
        if found.clients[:count].tolist() != here.clients.tolist():
            raise judge.refuse("recall: the round's clients come first, in their order")
        if len(set(found.clients.tolist())) != len(found.clients):
            raise judge.refuse("recall: every client has one row at most")
        many = len(found.clients)
        judge.tensor("recall: updates", found.updates, rows.new_empty(many, rows.shape[1]))
        judge.tensor("recall: samples", found.samples, rows.new_empty(many))
        judge.tensor("recall: shrinkage", found.shrinkage, rows.new_empty(many))
