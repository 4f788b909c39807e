"""What every trainer is: jobs in, updates and losses out; and the mini-batch order that all of them share."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, Trained, TrainingSchedule
from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.models.layout import Layout
from autoflip_secure.training.augmenting import PixelRange
from autoflip_secure.training.jobs import check, masked_starts

ARITHMETIC = "2"
"""How local training rounds; raised when the last bits of a model change. 2: convolutions on small images are products
of matrices where a module is a chain (:mod:`.chain`), which changed nothing in models without convolutions."""

Notes = dict[str, bool]
"""What was found out about a module by trial, so that it is found out once; goes when the module goes."""


class Trainer(ABC):
    """What clients send at the end of a round. ``reason`` says in a sentence why this trainer was taken."""

    kind: ClassVar[Literal["stacked", "sequential"]]
    pixels: PixelRange | None = None  # of the data that it trains on, for augmentation; None: not known

    def __init__(self, reason: str = "asked for", device: torch.device | str = "cpu") -> None:
        self.reason = reason
        self.device = torch.device(device)

    @abstractmethod
    def train(
        self,
        module: nn.Module,
        layout: Layout,
        x: Shaped[Tensor, "rows ..."],
        jobs: Sequence[ClientJob],
        schedule: TrainingSchedule,
    ) -> Trained:
        """Train every job from its own start; jobs may be of many cells and differ in size, mask, start and seed.

        Args:
            module: the architecture, as a template: its weights and its mode are neither read nor changed.
            layout: the layout of ``module``.
            x: the whole training set, best already on :attr:`device`; jobs name rows of it.
            jobs: the clients; labels come with the job.
            schedule: optimiser, batch size and epochs, the same for all jobs.

        Returns:
            ``updates`` (jobs, params) = end - start, where the start is the masked one (zero where ``mask`` is False),
            float32, on the device of the jobs' ``start``; ``losses`` (jobs, epochs): mean over a job's samples of the
            training loss, each at the moment its batch was used; ``sums`` (jobs, params): what jobs accumulate, summed
            over steps, of mini-batch gradients before any mask, rule or weight decay.

        Raises:
            InputError: a job has no samples, or a start that does not fit the layout, or is to accumulate gradients
                under DP-SGD, which has none at masked coordinates.
        """

    def gradients(
        self,
        module: nn.Module,
        layout: Layout,
        x: Shaped[Tensor, "rows ..."],
        jobs: Sequence[ClientJob],
        schedule: TrainingSchedule,
    ) -> Float[Tensor, "jobs params"]:
        """Mean gradient of the loss over each job's samples at its masked start; see :mod:`.gradients`.

        Arguments as for :meth:`train`; of the schedule the batch size counts: so many samples are computed at once.

        Raises:
            InputError: as for :meth:`train`, or this trainer has no gradients to give.
        """
        raise InputError(f"{type(self).__name__} gives no gradients; measure channels with another trainer")


@dataclass(frozen=True)
class Work:
    """Jobs that are trained at once, on the trainer's device."""

    template: nn.Module  # whose weights and mode are neither read nor changed
    training: bool  # the mode of ``net``
    layout: Layout
    x: Tensor  # the whole training set
    jobs: Sequence[ClientJob]
    schedule: TrainingSchedule
    notes: Notes  # of the template

    @cached_property
    def net(self) -> nn.Module:
        """A private copy of the template, for those who need one."""
        return working_copy(self.template, self.x.device).train(self.training)

    def part(self, places: Sequence[int]) -> Work:
        """The same with some of the jobs."""
        return replace(self, jobs=[self.jobs[place] for place in places])

    def room(self) -> Done:
        """For what these jobs come to."""
        count, device = len(self.jobs), self.x.device
        ends = torch.empty(count, self.layout.size, device=device)
        return Done(ends, torch.empty(count, self.schedule.epochs, device=device))


@dataclass
class Done:
    """What local training came to, on the trainer's device."""

    ends: Tensor  # weights (jobs, params)
    losses: Tensor  # (jobs, epochs)
    masks: Tensor | None = None  # (jobs, params) at the end; None: no local rule moves them
    sums: dict[Accumulated, Tensor] = field(default_factory=dict)  # (jobs, params) over steps, of who asked
    snapshots: Tensor | None = None  # weights (jobs, params) after an epoch; None: no job asks for them

    def put(self, places: Sequence[int], part: Done) -> None:
        """Fill in the jobs at ``places``."""
        where = torch.tensor(places, device=self.ends.device)
        self.ends[where], self.losses[where] = part.ends, part.losses
        if part.masks is not None:
            if self.masks is None:
                self.masks = torch.ones_like(self.ends, dtype=torch.bool)
            self.masks[where] = part.masks
        for name, rows in part.sums.items():
            self.sums.setdefault(name, torch.zeros_like(self.ends))[where] = rows
        if part.snapshots is not None:
            if self.snapshots is None:
                self.snapshots = torch.zeros_like(self.ends)
            self.snapshots[where] = part.snapshots


class LocalTrainer(Trainer):
    """Trains on the clients' own data: checks and copies here, the steps themselves in :meth:`_train`."""

    def __init__(self, reason: str = "asked for", device: torch.device | str = "cpu") -> None:
        super().__init__(reason, device)
        self._notes: WeakKeyDictionary[nn.Module, Notes] = WeakKeyDictionary()

    def train(
        self,
        module: nn.Module,
        layout: Layout,
        x: Shaped[Tensor, "rows ..."],
        jobs: Sequence[ClientJob],
        schedule: TrainingSchedule,
    ) -> Trained:
        """See :meth:`Trainer.train`."""
        for job in jobs:
            check(job, layout)
        if not jobs:
            return Trained(torch.zeros(0, layout.size), torch.zeros(0, schedule.epochs))
        with precise(self.device):
            notes = self._notes.setdefault(module, {})
            done = self._train(Work(module, True, layout, x.to(self.device), jobs, schedule, notes))
        home = jobs[0].start.device
        starts = masked_starts(jobs).to(home)
        sums = {name: _of_who_asked(rows, name, jobs).to(home) for name, rows in done.sums.items()}
        noted = None if done.snapshots is None else done.snapshots.to(home)
        return Trained(
            done.ends.to(home).sub_(starts), done.losses.to(home), _last_masks(done, jobs, home), sums, noted
        )

    def gradients(
        self,
        module: nn.Module,
        layout: Layout,
        x: Shaped[Tensor, "rows ..."],
        jobs: Sequence[ClientJob],
        schedule: TrainingSchedule,
    ) -> Float[Tensor, "jobs params"]:
        """See :meth:`Trainer.gradients`."""
        for job in jobs:
            check(job, layout)
        if not jobs:
            return torch.zeros(0, layout.size)
        with precise(self.device):
            notes = self._notes.setdefault(module, {})
            found = self._gradients(Work(module, False, layout, x.to(self.device), jobs, schedule, notes))
        return found.to(jobs[0].start.device)

    @abstractmethod
    def _train(self, work: Work) -> Done:
        """Train every job."""

    @abstractmethod
    def _gradients(self, work: Work) -> Tensor:
        """Mean gradients (jobs, params); the net of ``work`` is in evaluation mode."""


def working_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """A private copy on ``device``, so that nobody's module changes weights, mode or place."""
    return copy.deepcopy(module).to(device)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module by the names that a :class:`Layout` uses."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def resolve_device(device: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """``auto`` is the GPU when there is one, else the CPU.

    Raises:
        InputError: ``cuda`` without a GPU that torch can use.
    """
    available = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if available else "cpu")
    if device == "cuda" and not available:
        raise InputError(
            "device = 'cuda', but torch finds no GPU here; set device: auto or device: cpu, "
            "or install a CUDA build of torch"
        )
    return torch.device(device)


def precise(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """On a GPU: convolutions in full float32 by deterministic kernels, so that stacked and sequential agree."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``, without waiting there: a GPU goes on with what it is at meanwhile."""
    if device.type == "cpu" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def surely_none(flags: Tensor) -> bool:
    """Whether it is known that no flag is set. A GPU is not asked, which would wait: there it is never known."""
    return flags.device.type == "cpu" and not bool(flags.any())


def _last_masks(done: Done, jobs: Sequence[ClientJob], home: torch.device) -> Tensor | None:
    """The masks at the end of all jobs, where the rule of one moves its own."""
    if done.masks is None:
        return None
    masks = done.masks.to(home)
    for row, job in enumerate(jobs):
        if job.rule is None or not job.rule.moves:
            masks[row] = True if job.mask is None else job.mask
    return masks


def _of_who_asked(rows: Tensor, name: Accumulated, jobs: Sequence[ClientJob]) -> Tensor:
    """``rows`` with zeros for jobs that did not ask: a stack sums up for all of its models, or for none."""
    asked = [name in job.accumulate for job in jobs]
    return rows if all(asked) else torch.where(torch.tensor(asked, device=rows.device)[:, None], rows, 0.0)
