"""The rehearsal of training: steps on one and on two samples, alone and after somebody else, in both trainers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.interfaces import ClientJob, PrivateSteps, TrainingSchedule
from autoflip_secure.models.costs import CostModel
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.scenarios.data.base import Dataset
from autoflip_secure.scenarios.models.batchnorm_check import needs_company
from autoflip_secure.scenarios.models.blame import attribute_called
from autoflip_secure.scenarios.models.rehearsal import answer, differing_attribute, elsewhere, plain_attributes
from autoflip_secure.scenarios.models.trial import copied, first_line, quiet, scores
from autoflip_secure.seeds import Purpose
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer
from autoflip_secure.training.bits import same_bits
from autoflip_secure.training.sequential import PrivateFit

TOLERANCE = 1e-3  # of one trainer's updates against the other's, relative to the largest
_TRAINING = " while it trains"


@dataclass(frozen=True)
class Rehearsal:
    """A model and what it is to be trained on."""

    module: nn.Module
    data: Dataset
    schedule: TrainingSchedule
    private: PrivateSteps | None  # DP-SGD, where the plan has it
    fit: PrivateFit  # how one client trains with it, one at a time

    @cached_property
    def layout(self) -> Layout:
        """Of the module."""
        with _explained(self.module, "its tensors are listed"):
            return Layout.of(self.module)

    @cached_property
    def takes_one(self) -> bool:
        """Whether the module trains on one sample; where it does not, lone samples are refused apart."""
        return needs_company(self.module, self.data.x_train[:2]) is None

    def step(self, private: PrivateSteps | None) -> TrainingSchedule:
        """One epoch; private batches are no larger than what is trained on."""
        smaller = {} if private is None else {"batch_size": 1}
        return self.schedule.model_copy(update={"epochs": 1, "augment": None, **smaller})

    def jobs(self) -> list[ClientJob]:
        """A client of one sample, where the model takes one, and two of two samples."""
        start, owned = self.layout.vector(self.module), [torch.arange(2), torch.arange(2).flip(0)]
        if self.takes_one:
            owned.insert(0, torch.zeros(1, dtype=torch.long))
        return [ClientJob(start, rows, self.data.y_train[rows], 0, (1, k)) for k, rows in enumerate(owned)]


def rehearse_training(play: Rehearsal, trainer: Trainer) -> None:
    """Steps go through, and a client's update is its own whoever trained before.

    Args:
        play: the model and its data.
        trainer: the one that the run would take.

    Raises:
        UnsupportedModelError: names the layer, and the way out.
    """
    jobs = play.jobs()
    for group in [jobs] if play.private is None else [jobs, [replace(job, private=play.private) for job in jobs]]:
        _same_whoever_was_before(play, group)
        if trainer.kind == "stacked":
            _both_trainers_agree(play, group)


def rehearse_units(play: Rehearsal) -> None:
    """Layout, units, costs and a smaller model are found, or it is known why there are none.

    Raises:
        UnsupportedModelError: one of them fails in a way that nobody foresaw.
    """
    module, layout, row = play.module, play.layout, play.data.x_train[:1]
    with _explained(module, "its units and its costs are looked for"), drawing_at(0, Purpose.FORWARD):
        try:
            units, reason = find_units(module, row), "ok"
        except UnsupportedModelError as error:
            units, reason = None, str(error)
        costs = CostModel(module, layout, units, reason, row, play.schedule.batch_size)
        mask = torch.ones(layout.size, dtype=torch.bool)
        if units is not None and len(units.groups) > 1:
            kept = [torch.ones(group.units, dtype=torch.bool) for group in units.groups]
            kept[0][0] = len(kept[0]) == 1
            mask = units.keep_units(kept, layout)
        costs.training(mask, 1)


@contextmanager
def _explained(module: nn.Module, doing: str) -> Iterator[None]:
    """What fails inside is refused in a sentence."""
    try:
        with quiet():
            yield
    except InputError:
        raise
    except Exception as error:  # the user's module: it can fail in any way
        raise UnsupportedModelError(
            f"model {type(module).__name__} failed while {doing}: {type(error).__name__}: {first_line(error)}; "
            "replace the layer that does it"
        ) from error


def rehearse_passes(play: Rehearsal) -> None:
    """One pass forward and back on one sample and on two: shapes, and whose gradients there are.

    Raises:
        UnsupportedModelError: names the layer, and the way out.
    """
    name, data = type(play.module).__name__, play.data
    for count in (1, 2) if play.takes_one else (2,):
        net = copied(play.module).train()
        with drawing_at(0, Purpose.FORWARD), torch.enable_grad():
            logits = scores(net, data.x_train[:count], data.num_classes, _TRAINING)
            loss = F.cross_entropy(logits, data.y_train[:count])
            own = {(parameter.data_ptr(), parameter.shape) for parameter in net.parameters()}
            strangers = [leaf for leaf in _leaves(loss) if (leaf.data_ptr(), leaf.shape) not in own]
            if strangers:
                raise UnsupportedModelError(_stranger(net, strangers[0]))
            with _explained(net, f"gradients are made of {count} sample{'s' * (count > 1)}"):
                if loss.requires_grad:
                    loss.backward()  # type: ignore[no-untyped-call]
        if all(parameter.grad is None for parameter in net.parameters()):
            raise UnsupportedModelError(
                f"model {name} gives none of its parameters a gradient; its forward must not run under torch.no_grad() "
                "or detach its scores"
            )
        attached = [key for key, buffer in net.named_buffers() if buffer.requires_grad]
        if attached:
            raise UnsupportedModelError(
                f"model {name}: {attribute_called(net, *_owner(attached[0]))} carries the gradients of one batch into "
                "the next, where they are gone; detach() what it is made of"
            )


def rehearse_sending(play: Rehearsal) -> None:
    """What training changes is in what clients send, or makes no difference to what is tested.

    Raises:
        UnsupportedModelError: names the layer and the attribute.
    """
    net, rows = copied(play.module).train(), play.data.x_train[:2]
    with _explained(net, "it trains"), drawing_at(0, Purpose.FORWARD), torch.enable_grad():
        net(rows)
    sent = copied(play.module)
    with _explained(net, "its weights are put into a copy of it"):
        play.layout.load(sent, play.layout.vector(net))
    if same_bits(answer(net, rows), answer(sent, rows)):
        return
    own, other = dict(net.named_buffers()), dict(sent.named_buffers())
    lost = [key for key in own if key not in other or not same_bits(own[key], other[key])]
    found = _owner(lost[0]) if lost else differing_attribute(sent, net)
    what = attribute_called(net, *found) if found else "something in it"
    raise UnsupportedModelError(
        f"model {type(net).__name__}: {what} changes while it trains and counts when it is tested, but is neither a "
        "parameter nor a saved buffer of floats, so no client could send it; use register_buffer with float values"
    )


def _owner(name: str) -> tuple[str, str]:
    """A tensor's name, apart: (its layer, its name there)."""
    owner, _, key = name.rpartition(".")
    return owner, key


def _same_whoever_was_before(play: Rehearsal, jobs: Sequence[ClientJob]) -> None:
    private = jobs[-1].private
    step, trainer = play.step(private), SequentialTrainer(private=play.fit)

    def train(some: Sequence[ClientJob]) -> Tensor:
        with _explained(play.module, _what(private)):
            return trainer.train(play.module, play.layout, play.data.x_train, some, step).updates[-1]

    alone = train(jobs[-1:])
    with elsewhere():
        again, after = train(jobs[-1:]), train(jobs)
    if same_bits(alone, again) and same_bits(alone, after):
        return
    name = type(play.module).__name__
    if not same_bits(alone, again):
        raise UnsupportedModelError(
            f"model {name} trains to different weights from the same seed: it draws random numbers that cannot be "
            "controlled; draw from torch's global generator, which is at an address of the seed"
        )
    where = _remembered(play)
    raise UnsupportedModelError(
        f"model {name} trains to different weights when another client trained before: {where}; keep what changes in "
        "buffers (register_buffer), which every client starts from, or draw from torch's global generator"
    )


def _both_trainers_agree(play: Rehearsal, jobs: Sequence[ClientJob]) -> None:
    private = jobs[-1].private
    step, name = play.step(private), type(play.module).__name__
    with _explained(play.module, _what(private)):
        stacked, plain = (
            trainer.train(play.module, play.layout, play.data.x_train, jobs, step).updates
            for trainer in (StackedTrainer(), SequentialTrainer(private=play.fit))
        )
    finite = stacked.isfinite() & plain.isfinite()
    gap = torch.where(finite, (stacked - plain).abs(), 0.0)
    if bool(gap.max() > TOLERANCE * (1e-3 + torch.where(finite, plain, 0.0).abs().max())):
        place = int(gap.amax(0).argmax())
        segment = next(s for s in play.layout if s.start <= place < s.stop)
        raise UnsupportedModelError(
            f"model {name} trains to different weights in a stack than alone, by up to {float(gap.max()):.2g} in "
            f"{segment.name}; set trainer: sequential"
        )


def _remembered(play: Rehearsal) -> str:
    """What a module carries from one client to the next."""
    net = copied(play.module).train()
    before = copied(net)
    with torch.no_grad(), drawing_at(0, Purpose.FORWARD):
        net(play.data.x_train[:2])
    found = differing_attribute(before, net)
    return f"{attribute_called(net, *found) if found else 'something in it'} is remembered"


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors that a gradient of ``loss`` would be added up in."""
    seen: set[Any] = set()
    found, todo = [], [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo += [following for following, _ in node.next_functions]
    return found


def _stranger(net: nn.Module, leaf: Tensor) -> str:
    name = type(net).__name__
    for owner, part in net.named_modules():
        for key, value in plain_attributes(part).items():
            if any(leaf is tensor for tensor in _inside(value)):
                return (
                    f"model {name}: {attribute_called(net, owner, key)} takes part in its scores, but is not among "
                    "its parameters and would never be trained; use nn.Parameter for tensors, nn.ModuleList or "
                    "nn.ModuleDict for layers"
                )
    return (
        f"model {name}: a tensor of shape {tuple(leaf.shape)} that asks for gradients takes part in its scores, but is "
        "not among its parameters and would never be trained; make it an nn.Parameter of the module"
    )


def _inside(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _inside(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _inside(part)


def _what(private: PrivateSteps | None) -> str:
    return "it trains" if private is None else "it trains with DP-SGD"
