r"""A Flower strategy as an aggregator: what people run on real clients meets the attacks as it is.

.. math:: \theta_k = w + u_k, \qquad
          \Delta = \mathrm{strategy}\big(\{(\theta_k, n_k)\}_k\big) - w

Each round the strategy configures training for the participants, and aggregates one reply of each: its model, tensor
by tensor under the names of the module's parameters, and its number of samples as ``num-examples``. Both interfaces of
Flower are taken: strategies of messages (``flwr.serverapp.strategy``) and those before them
(``flwr.server.strategy``). Evaluation is not asked for.

The cohort is the scenario's; a strategy that samples, samples within it (``fraction_train``). Of the nodes that it
waits for (``min_available_nodes``, ``min_train_nodes``) those beyond the cohort are there and never reply. A strategy
is an object with memory: it is copied before each round, so that the same question has the same answer, and what it
draws from Python's, numpy's or torch's global generators comes from the scenario's seed.
"""

from __future__ import annotations

import copy
import inspect
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, RoundView
from autoflip_secure.models.layout import Layout
from autoflip_secure.runtime.user_randomness import drawing_at

Arrays = dict[str, np.ndarray]
_FAMILIES = ("flwr.serverapp.strategy", "flwr.server.strategy")  # messages; before them
_SAMPLES = "num-examples"
_WAITS = 0.9  # seconds; Flower looks for nodes once a second


class FlowerStrategy(Aggregator):
    """A Flower strategy, by its class; ``arguments`` are those of its constructor."""

    strategy: ClassVar[type]
    weighs_samples: ClassVar[bool] = True
    arguments: dict[str, Any] = Field(default={}, description="keywords of the strategy's constructor")

    def __hash__(self) -> int:
        """Of the written form: arguments may be mappings."""
        return hash(self.model_dump_json())

    def start(self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None) -> Any:
        """The strategy before round 1; one that asks for ``initial_parameters`` gets the initial model."""
        keywords = dict(self.arguments)
        if "initial_parameters" in _parameters(self.strategy) and "initial_parameters" not in keywords:
            from flwr.common import ndarrays_to_parameters

            keywords["initial_parameters"] = ndarrays_to_parameters(list(_arrays(weights, layout).values()))
        with _quietly(0):
            try:
                return self.strategy(**keywords)
            except Exception as error:  # the user's code: it can fail in any way
                raise InputError(
                    f"{self._called()}: cannot be made with {', '.join(keywords) or 'no arguments'} "
                    f"({type(error).__name__}: {error}); change aggregator.arguments"
                ) from error

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is even among those whose replies were asked for, for a strategy does not say it."""
        strategy = copy.deepcopy(state)
        module = sys.modules[_family(self.strategy) or ""]
        ask = _by_messages if module.__name__ == _FAMILIES[0] else _by_fit_results
        with _quietly(view.generator().initial_seed()):
            try:
                asked, found = ask(strategy, view)
            except InputError as error:
                raise InputError(f"{self._called()}: {error}") from error
            except Exception as error:
                raise InputError(
                    f"{self._called()}: failed in round {view.round} with {type(error).__name__}: {error}; mend it"
                ) from error
        trust = asked.to(view.samples)
        if found is None or not bool(asked.any()):
            return Aggregate(torch.zeros_like(view.weights), torch.zeros_like(trust), None, strategy)
        return Aggregate(self._row(found, view) - view.weights, trust / trust.sum(), None, strategy)

    def _row(self, found: Arrays, view: RoundView) -> Tensor:
        """The model that the strategy gave, as a row.

        Raises:
            InputError: a tensor is missing, or has another shape.
        """
        row = view.weights.clone()
        for segment in view.layout:
            array = found.get(segment.name)
            if array is None or tuple(array.shape) != tuple(segment.shape):
                what = "is missing" if array is None else f"has shape {tuple(array.shape)}"
                raise InputError(
                    f"{self._called()}: {segment.name} {what} in what it gives, expected {tuple(segment.shape)}: a "
                    "strategy gives a model of the shape that it was given"
                )
            row[segment.slice] = torch.from_numpy(np.ascontiguousarray(array, np.float32)).reshape(-1).to(row)
        return row

    def _called(self) -> str:
        return f"aggregator = {getattr(self, 'kind', self.strategy.__name__)!r}"


def adapted(cls: Any) -> Any:
    """A Flower strategy as an aggregator's class; anything else as it is. Nothing of Flower is imported."""
    return _adapter(cls) if isinstance(cls, type) and _family(cls) else cls


@cache
def _adapter(cls: type) -> type[FlowerStrategy]:
    described = (cls.__doc__ or "A Flower strategy.").strip()
    own = {"strategy": cls, "__module__": cls.__module__, "__doc__": described, "__qualname__": cls.__qualname__}
    metaclass: Any = type(FlowerStrategy)
    found: type[FlowerStrategy] = metaclass(cls.__name__, (FlowerStrategy,), own)
    return found


def _family(cls: type) -> str | None:
    """The module of Flower whose ``Strategy`` it is a subclass of; None: of none."""
    for name in _FAMILIES:
        base = getattr(sys.modules.get(name), "Strategy", None)
        if isinstance(base, type) and issubclass(cls, base):
            return name
    return None


def _parameters(cls: type) -> Iterable[str]:
    try:
        return inspect.signature(cls).parameters
    except ValueError:  # written in C
        return ()


def _arrays(row: Tensor, layout: Layout) -> Arrays:
    return {s.name: row[s.slice].reshape(s.shape).cpu().numpy().copy() for s in layout}


def _places(strategy: Any, cohort: int) -> int:
    """How many nodes there are: the cohort, and those that it waits for besides."""
    waits = ("min_available_nodes", "min_train_nodes", "min_available_clients", "min_fit_clients")
    return max([cohort, *(n for name in waits if isinstance(n := getattr(strategy, name, 0), int))])


def _by_messages(strategy: Any, view: RoundView) -> tuple[Tensor, Arrays | None]:
    """Who was asked (clients,), and the model that came of it; by the interface of messages."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

    _identified()

    def record(row: Tensor) -> Any:
        return ArrayRecord({name: Array(array) for name, array in _arrays(row, view.layout).items()})

    nodes = _Nodes(_places(strategy, len(view.clients)))
    configured = strategy.configure_train(view.round, record(view.weights), ConfigRecord(), nodes.grid())
    messages = {message.metadata.dst_node_id: message for message in configured}
    asked = torch.tensor([place + 1 in messages for place in range(len(view.clients))])
    replies = []
    for place in asked.nonzero().flatten().tolist():
        model, samples = record(view.weights + view.updates[place]), float(view.samples[place])
        content = RecordDict({"arrays": model, "metrics": MetricRecord({_SAMPLES: samples})})
        replies.append(Message(content, reply_to=messages[place + 1]))
    arrays, _ = strategy.aggregate_train(view.round, replies)
    return asked, None if arrays is None else {name: array.numpy() for name, array in arrays.items()}


def _identified() -> None:
    """Messages name the run and the task that they are of; a process of Flower's own has said which, any other not."""
    from flwr.supercore.task_identity import TaskIdentity

    try:
        _ = TaskIdentity.run_id
    except RuntimeError:
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1


def _by_fit_results(strategy: Any, view: RoundView) -> tuple[Tensor, Arrays | None]:
    """The same by the interface before messages: ``configure_fit`` and ``aggregate_fit``."""
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays

    def parameters(row: Tensor) -> Any:
        return ndarrays_to_parameters(list(_arrays(row, view.layout).values()))

    nodes = _Nodes(_places(strategy, len(view.clients)))
    configured = strategy.configure_fit(view.round, parameters(view.weights), nodes.manager())
    chosen = {proxy.cid: proxy for proxy, _ in configured}
    asked = torch.tensor([str(place + 1) in chosen for place in range(len(view.clients))])
    results = []
    for place in asked.nonzero().flatten().tolist():
        model, samples = parameters(view.weights + view.updates[place]), int(view.samples[place])
        results.append((chosen[str(place + 1)], FitRes(Status(Code.OK, ""), model, samples, {})))
    found, _ = strategy.aggregate_fit(view.round, results, [])
    if found is None:
        return asked, None
    return asked, dict(zip((s.name for s in view.layout), parameters_to_ndarrays(found), strict=False))


class _Nodes:
    """The nodes of one round, numbered from 1, as either interface of Flower looks for them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.first = float("inf")

    def numbers(self) -> list[int]:
        """All of them.

        Raises:
            InputError: it was looked for them again after a second: somebody waits for more than there are.
        """
        now = time.monotonic()
        self.first = min(self.first, now)
        if now - self.first > _WAITS:
            raise InputError(f"waits for more nodes than the {self.count} of the round; lower what it waits for")
        return list(range(1, self.count + 1))

    def grid(self) -> Any:
        """For strategies of messages."""
        from flwr.serverapp import Grid

        own = {"get_node_ids": lambda _: self.numbers()}
        return type("CohortGrid", (Grid,), own | {n: _absent(n) for n in Grid.__abstractmethods__ - {*own}})()

    def manager(self) -> Any:
        """For those before them."""
        from flwr.server.client_manager import SimpleClientManager
        from flwr.server.client_proxy import ClientProxy

        proxy = type("CohortClient", (ClientProxy,), {n: _absent(n) for n in ClientProxy.__abstractmethods__})
        manager = SimpleClientManager()
        for number in self.numbers():
            manager.register(proxy(str(number)))
        return manager


def _absent(name: str) -> Any:
    def missing(*_: Any, **__: Any) -> Any:
        raise InputError(f"calls {name}, which reaches for clients; here a strategy configures and aggregates alone")

    return missing


@contextmanager
def _quietly(seed: int) -> Iterator[None]:
    """Global generators at ``seed``, and without Flower's log of every round."""
    log = logging.getLogger("flwr")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with drawing_at(seed):
            yield
    finally:
        log.setLevel(level)
