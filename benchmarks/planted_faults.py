"""Faults that an audit has to find, planted in the product's own path: in the trainer, the mechanism or the ledger.

Each is a mistake that somebody makes: noise forgotten, halved, added after the division by the batch size, added before
the clip; a release that the ledger does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.mechanisms import ClientLevel, ClipState
from autoflip_secure.defenses.privacy.noised_rows import clip_to
from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule, schedule_of
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import ClientJob, PrivacyView, Trained, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training import Trainer, private

FAULTS = ("none", "no noise", "noise x 1/2", "noise / batch size", "clip after noise", "exploration not counted")
_FAR = 1e6  # times the clip norm: nothing is clipped there


class Faulty(Trainer):
    """DP-SGD with another share of the noise, or with a clip that comes after it."""

    kind = "stacked"

    def __init__(self, inner: Trainer, noise: float, *, late: bool = False) -> None:
        super().__init__("faulty", inner.device)
        self.inner, self.noise, self.late = inner, noise, late

    def train(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: TrainingSchedule
    ) -> Trained:
        """As the real one, with other settings."""
        clips = {job.private.clip for job in jobs if job.private is not None}
        wrong = [self._wrong(job) for job in jobs]
        if not self.late or not clips:
            return self.inner.train(module, layout, x, wrong, schedule)
        (clip,), real = clips, private.stacked_optimizer

        def clips_late(schedule: ReleaseSchedule, leaves: list[Tensor]) -> Any:
            return _ClipsLate(real(schedule, leaves), clip / schedule.batch_size)

        with patch.object(private, "stacked_optimizer", clips_late):
            return self.inner.train(module, layout, x, wrong, schedule)

    def _wrong(self, job: ClientJob) -> ClientJob:
        if job.private is None:
            return job
        far = _FAR if self.late else 1.0
        clip, noise = job.private.clip * far, job.private.noise_multiplier * self.noise / far
        return replace(job, private=replace(job.private, clip=clip, noise_multiplier=noise))


class _ClipsLate:
    """An optimiser that gets noised sums of gradients that nobody clipped, and clips these."""

    def __init__(self, inner: Any, most: float) -> None:
        self.inner, self.most = inner, most

    def step(self, leaves: list[Tensor], grads: list[Tensor]) -> None:
        """Clip each job's noised mean to the norm that one sample may have in it, and go on."""
        norms = torch.stack([g.flatten(1).square().sum(1) for g in grads]).sum(0).sqrt()
        shrink = (self.most / norms.clamp_min(1e-30)).clamp(max=1)
        self.inner.step(leaves, [g * shrink.view(-1, *[1] * (g.dim() - 1)) for g in grads])


class Quieter(ClientLevel):
    """Noise times ``share``, wherever it belongs."""

    share: float = 0.0

    def explore(self, deviations: Tensor, view: PrivacyView) -> Tensor:
        """Too little noise."""
        if self.exploration_noise_multiplier is None:
            return super().explore(deviations, self._less(view))
        own = {"exploration_noise_multiplier": self.share * self.exploration_noise_multiplier}
        return ClientLevel.explore(self.model_copy(update=own), deviations, view)

    def send(self, state: ClipState, updates: Tensor, view: PrivacyView) -> Tensor:
        """Too little noise."""
        return super().send(state, updates, self._less(view))

    def publish(self, state: ClipState, delta: Tensor, updates: Tensor, view: PrivacyView) -> tuple[Tensor, ClipState]:
        """Too little noise."""
        return super().publish(state, delta, updates, self._less(view))

    def _less(self, view: PrivacyView) -> PrivacyView:
        return replace(view, noise_multiplier=self.share * view.noise_multiplier)


class Late(ClientLevel):
    """Rows are noised as they are, and the noised rows, or their noised mean, are clipped."""

    def send(self, state: ClipState, updates: Tensor, view: PrivacyView) -> Tensor:
        """The noise has the right size; the row it hides has not."""
        if self.noise == "central":
            return updates
        far = ClipState(state.clip * _FAR)
        noised = super().send(far, updates, replace(view, noise_multiplier=view.noise_multiplier / _FAR))
        return clip_to(noised, state.clip)

    def publish(self, state: ClipState, delta: Tensor, updates: Tensor, view: PrivacyView) -> tuple[Tensor, ClipState]:
        """Central noise comes before the clip too."""
        delta, after = super().publish(state, delta, updates, view)
        return (clip_to(delta[None], state.clip)[0] if self.noise == "central" else delta), after


@contextmanager
def planted(fault: str) -> Iterator[Callable[[Cell, Trainer], tuple[Cell, Trainer]]]:
    """What spoils a cell and its trainer.

    Cells are built inside: a ledger that forgets the exploration chooses the noise too.
    """
    if fault not in FAULTS:
        raise ValueError(f"fault = {fault!r}: is not one of {', '.join(FAULTS)}")
    forgetful = fault == "exploration not counted"
    ledger = _without_exploration if forgetful else schedule_of
    with (
        patch("autoflip_secure.scenarios.audits.claims.schedule_of", ledger),
        patch("autoflip_secure.scenarios.running.privacy_planning.schedule_of", ledger),
    ):
        yield lambda cell, trainer: (_spoilt(fault, cell), _spoilt_trainer(fault, cell, trainer))


def _without_exploration(cell: Cell) -> ReleaseSchedule:
    return replace(schedule_of(cell), explorers=())


def _share(fault: str, cell: Cell) -> float | None:
    """What is left of the noise."""
    return {"no noise": 0.0, "noise x 1/2": 0.5, "noise / batch size": 1 / cell.protocol.training.batch_size}.get(fault)


def _spoilt(fault: str, cell: Cell) -> Cell:
    right, share = cell.protocol.client_level, _share(fault, cell)
    if right is None or (share is None and fault != "clip after noise"):
        return cell
    settings = right.model_dump()
    wrong = Late.model_validate(settings) if share is None else Quieter.model_validate({**settings, "share": share})
    return replace(cell, protocol=cell.protocol.model_copy(update={"privacy": wrong}))


def _spoilt_trainer(fault: str, cell: Cell, trainer: Trainer) -> Trainer:
    share = _share(fault, cell)
    if share is not None:
        return Faulty(trainer, share)
    return Faulty(trainer, 1.0, late=True) if fault == "clip after noise" else trainer
