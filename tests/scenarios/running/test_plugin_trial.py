"""What a plug-in from outside must not do: each is found before anything runs, and what is sound passes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from answering_plugins import (
    Acts,
    Answer,
    Blocks,
    Counts,
    Covering,
    Fines,
    Labels,
    LabelsUnder,
    Masks,
    Misnamed,
    Moves,
    Own,
    Parts,
    Pulls,
    Pushes,
    Reads,
    Rules,
    Scoring,
    Steps,
    Unknown,
    Updates,
    arrays,
)
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import (
    Aggregate,
    OwnMask,
    Plugin,
    RoundView,
)
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config.plugin_families import FAMILIES
from autoflip_secure.scenarios.data.base import Arrays
from autoflip_secure.scenarios.data.datasets import Digits
from autoflip_secure.scenarios.data.partitions import ByGroup
from autoflip_secure.scenarios.models.chains import Mlp
from autoflip_secure.scenarios.running.plugin_trial import Stage, try_out

DATA = Digits(train_samples=120, test_samples=50).load()


@pytest.fixture(scope="module")
def stage() -> Stage:
    module = Mlp(hidden=(8,)).build(DATA.x_train[:2], 10, 0)
    layout = Layout.of(module)
    return Stage(DATA, layout, Chain.of(module, DATA.x_train[:1]), layout.vector(module), 6, 4, 5)


def tried(stage: Stage, base: type[Plugin], answer: Answer) -> None:
    made: Any = type(
        "Tried", (base,), {"answer": staticmethod(answer), "__annotations__": {"answer": ClassVar[Answer]}}
    )
    try_out("x.kind = 'tried'", made(), stage)


def malicious(given: Any, value: Any) -> Tensor:
    return torch.where(given[1][:, None], value, given[0])


def even(view: RoundView) -> Tensor:
    return torch.full((len(view.updates),), 1 / len(view.updates))


memory: list[int] = []
CASES: dict[str, tuple[type[Plugin], Answer, str]] = {
    "attack": (Updates, lambda given: malicious(given, -given[0]), ""),
    "attack that draws by address": (
        Updates, lambda given: malicious(given, torch.randn(given[0].shape[1], generator=given[2][0])), ""
    ),
    "attack that draws elsewhere": (
        Updates, lambda given: malicious(given, torch.randn(given[0].shape[1])), "gives another"
    ),
    "attack of another type": (Updates, lambda given: given[0].double(), "gives shape"),
    "attack of another shape": (Updates, lambda given: given[0][:1], "expected a tensor of shape (4, "),
    "attack without a tensor": (Updates, lambda given: None, "gives a NoneType"),
    "attack on everybody": (Updates, lambda given: -given[0], "changes rows of honest clients"),
    "attack in place": (Updates, lambda given: given[0].neg_(), "changes what it is shown in place"),
    "attack that fails": (Updates, lambda given: 1 / 0, "updates failed with ZeroDivisionError: division"),
    "labels": (Labels, lambda given: (given[0] + 1) % given[1], ""),
    "labels under a model": (LabelsUnder, lambda given: given[3].argmin(1), ""),
    "labels under a model beyond the classes": (
        LabelsUnder, lambda given: given[3].argmin(1) + 1, "labels_under gives classes from 1 to 10",
    ),
    "labels beyond the classes": (Labels, lambda given: given[0] + 1, "classes from 1 to 10; the data has 0 to 9"),
    "attack on a view": (Acts, lambda view: (view.sending(-view.honest_rows.mean(0)), (view.memory or 0) + 1), ""),
    "attack that tries": (
        Acts, lambda view: (view.updates * float((view.trial or view.landscape)(view.updates).clients.sum() + 1)
                            if view.round == 0 else view.sending(view.trial(view.updates).delta), None), ""
    ),
    "attack without a memory": (Acts, lambda view: view.updates, "act should give the rows and its memory"),
    "attack on a view in place": (Acts, lambda view: (view.updates.neg_(), None), "changes what it is shown in place"),
    "attack that looks into the exploration": (
        Acts, lambda view: (view.sending(view.guidance.energy), None), "act in round 0 failed with AttributeError"
    ),
    "attack that draws": (Acts, lambda view: (view.updates + torch.randn(1), None), "gives another answer"),
    "sample numbers": (Counts, lambda samples: samples * 2, ""),
    "places": (Pushes, lambda places: places / 2, ""),
    "places below none": (Pushes, lambda places: places - 0.5, "give numbers from 0"),
    "half a sample": (Counts, lambda samples: samples / 4, "state whole numbers from 1"),
    "aggregator": (Steps, lambda view: Aggregate(even(view) @ view.updates, even(view), None), ""),
    "aggregator with too much trust": (
        Steps, lambda view: Aggregate(view.updates.mean(0), 2 * even(view), None), "sum to 1, or be all 0"
    ),
    "aggregator of doubles": (
        Steps, lambda view: Aggregate(view.updates.mean(0).double(), even(view), None), "aggregate: delta gives shape"
    ),
    "aggregator with scores": (
        Steps, lambda view: Aggregate(view.updates.mean(0), even(view), even(view)), "scores: gives some"
    ),
    "aggregator that scores": (
        Scoring, lambda view: Aggregate(view.updates.mean(0), even(view), even(view)), ""
    ),
    "aggregator that scores and names no attack": (
        Unknown, lambda view: Aggregate(view.updates.mean(0), even(view), even(view)), "known_by: is empty"
    ),
    "aggregator that names a kind alone": (
        Misnamed, lambda view: Aggregate(view.updates.mean(0), even(view), None), "each a mapping with a kind"
    ),
    "aggregator of another kind": (Steps, lambda view: view.updates.mean(0), "gives a Tensor, expected an Aggregate"),
    "aggregator that needs several": (
        Steps, lambda view: Aggregate(view.updates[1], even(view), None), "of 1 updates failed with IndexError"
    ),
    "aggregator that remembers": (
        Steps, lambda view: (memory.append(1), Aggregate(view.updates[0] * len(memory), even(view), None))[1],
        "remembers something",
    ),
    "aggregator of cells": (Blocks, lambda found: found, ""),
    "aggregator of cells in another order": (Blocks, lambda found: found[1:] + found[:1], "beside others than alone"),
    "aggregator of fewer cells": (Blocks, lambda found: found[:1], "beside others than alone"),
    "aggregator of cells that add up": (
        Blocks, lambda found: [replace(one, delta=sum(two.delta for two in found)) for one in found], "beside others"
    ),
    "pruner": (Masks, lambda view: view.weights.abs() > 0.01, ""),
    "pruner of everything": (Masks, lambda view: view.mask & False, "mask prunes everything in round 0"),
    "pruner with numbers": (Masks, lambda view: view.mask.float(), "gives shape"),
    "pruner in place": (Masks, lambda view: view.mask.logical_not_(), "changes what it is shown in place"),
    "local rule": (Rules, lambda given: [g.mul_(2) for g in given[1]], ""),
    "local rule over the stack": (Rules, lambda given: [g - g.mean(0) for g in given[1]], "never over the first"),
    "local rule that moves weights": (
        Rules, lambda given: [given[1], given[0].weights[0].zero_()][0], "changes what it is shown in place"
    ),
    "local rule without the last tensor": (Rules, lambda given: given[1][:-1], "should give a list of 4 tensors"),
    "local rule of another shape": (Rules, lambda given: [g[:1] for g in given[1]], "gradient gives shape"),
    "mask": (Moves, lambda given: [w.abs() > 0.01 for w in given[0].weights], ""),
    "mask of numbers": (Moves, lambda given: given[0].masks, "mask gives shape"),
    "penalty": (Fines, lambda given: given[0].weights[0].square().sum((1, 2)), ""),
    "penalty of all together": (Fines, lambda given: given[0].weights[0].square().sum(), "penalty gives shape"),
    "pull": (Pulls, lambda _: 0.5, ""),
    "push": (Pulls, lambda _: -0.5, "proximal = -0.5: should be a number, 0 or more"),
    "pruner of own masks": (Own, lambda view: OwnMask(view.mask, view.weights, {"seen": view.states["seen"] + 1}), ""),
    "pruner of no own mask": (Own, lambda view: view.mask, "client_mask gives a Tensor, expected an OwnMask"),
    "pruner of everything of a client": (
        Own, lambda view: OwnMask(view.mask & False, view.weights), "client_mask prunes everything in round 1"
    ),
    "pruner that starts anywhere": (
        Own, lambda view: OwnMask(view.mask, view.weights.double()), "client_mask: start gives shape"
    ),
    "pruner that keeps what it did not name": (
        Own, lambda view: OwnMask(view.mask, view.weights, {"other": view.weights}), "keeps 'other', which client_rows"
    ),
    "pruner that keeps bits as numbers": (
        Own, lambda view: OwnMask(view.mask, view.weights, {"seen": view.mask}), "client_mask: seen gives shape"
    ),
    "pruner that changes a state in place": (
        Own, lambda view: OwnMask(view.mask, view.weights, {"seen": view.states["seen"].add_(1)}), "in place"
    ),
    "aggregator of own masks": (
        Covering,
        lambda view: Aggregate(view.coverage_mean(even(view) @ view.updates, even(view)), even(view), None),
        "",
    ),
    "aggregator that moves what nobody holds": (
        Covering, lambda view: Aggregate(view.updates.mean(0) + 1, even(view), None), "that no client holds"
    ),
    "partition": (Parts, lambda given: np.array_split(given[2].permutation(given[0]), given[1]), ""),
    "partition that draws elsewhere": (
        Parts, lambda given: np.array_split(np.random.permutation(given[0]), given[1]), "gives another answer"
    ),
    "partition that forgets": (Parts, lambda given: np.array_split(np.arange(9), given[1]), "sample exactly once"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_plug_in_may_do(name: str, stage: Stage) -> None:
    base, answer, why = CASES[name]
    if not why:
        tried(stage, base, answer)
        return
    with pytest.raises(InputError) as error:
        tried(stage, base, answer)
    assert str(error.value).startswith("x.kind = 'tried': ")
    assert why in str(error.value)


@pytest.mark.parametrize(
    "family", ["attack", "aggregator", "pre_aggregator", "pruner", "local_rule", "partition", "privacy"]
)
def test_what_is_built_in_passes(family: str, stage: Stage) -> None:
    """The trial asks for no more than our own plug-ins give."""
    for cls in FAMILIES[family].builtin.values():
        options = {"noise_multiplier": 1.0} if "noise_multiplier" in cls.model_fields else {}
        if cls is not ByGroup:  # of the digits, nobody knows the writers
            try_out("ours", cls(**options), stage)


def test_data_from_outside_are_the_same_when_they_are_read_again() -> None:
    def rehearsed(seed: int | None) -> None:
        class Outside(Reads):
            foreign: ClassVar[bool] = True
            answer: ClassVar[Answer] = staticmethod(lambda _: arrays(seed))

        Outside().rehearse()

    rehearsed(0)
    with pytest.raises(InputError, match=r"data\.kind = 'Outside': read returns different samples"):
        rehearsed(None)


def damaged(**changes: Any) -> Arrays:
    return Arrays(**{**vars(arrays(0)), **changes})


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (lambda: 1 / 0, "read failed with ZeroDivisionError"),
        (lambda: 3, "read gave a int, expected Arrays"),
        (lambda: damaged(x_train=np.full((6, 2), np.nan)), "x_train with NaN or infinity"),
        (lambda: damaged(x_train=np.ma.masked_equal(np.eye(6, 2), 1)), "x_train with masked values; fill"),
        (lambda: damaged(x_test=np.zeros((6, 3))), "samples of shape (3,) in x_test and (2,) in x_train"),
        (lambda: damaged(x_train=np.zeros(6)), "no array of numbers of shape (samples, features"),
        (lambda: damaged(y_train=np.arange(5)), "one whole number for each of the 6 samples"),
        (lambda: damaged(y_test=np.arange(6)), "labels from 0 to 5 in y_test for 2 class_names; expected 0 to 1"),
        (lambda: damaged(groups=np.arange(2)), "groups that are not one whole number"),
    ],
)
def test_data_from_outside_are_judged_as_they_are_read(read: Callable[[], Any], why: str) -> None:
    class Outside(Reads):
        foreign: ClassVar[bool] = True
        answer: ClassVar[Answer] = staticmethod(lambda _: read())

    with pytest.raises(InputError, match=r"data\.kind = 'Outside': ") as error:
        Outside().load()
    assert why in str(error.value)


class _First(Masks):
    """Prunes once, in round 0, whatever is explored later."""

    draws_again: ClassVar[bool] = True


class _Fresh(_First):
    """Draws its mask anew."""


def test_a_pruner_that_says_it_draws_again_does_so(stage: Stage) -> None:
    def half(view: Any) -> Tensor:
        return view.mask & (torch.arange(len(view.mask)) % 2 == 0)

    with pytest.raises(InputError, match="prunes nothing after a later exploration"):
        tried(stage, _First, lambda view: half(view) if view.round == 0 else view.mask)
    tried(stage, _Fresh, lambda view: half(view) if view.fresh else view.mask)
