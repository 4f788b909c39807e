"""No step of local training asks the device for a number: on a GPU that would wait for all that is queued there.

On the processor the path of a GPU is taken (nothing is looked at), under a mode that sees every operation and refuses
those that give numbers to Python, or whose result has a size that depends on numbers. Where there is a GPU, CUDA itself
refuses them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_bits import cnn, deep, mlp, problem
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from autoflip_secure.interfaces import ClientJob, PrivateSteps, RoundRule, Scoring, TrainingSchedule
from autoflip_secure.interfaces.schedule import Augmentation
from autoflip_secure.local_rules.fedlex import FedLEx
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.local_rules.regrow import Regrow
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.fedpm import FedPM
from autoflip_secure.training import StackedTrainer, layer_sums, per_sample, private, stacked
from autoflip_secure.training.augmenting import PixelRange

SIZES = [40, 33, 40, 17, 25]
FORBIDDEN = {
    f"aten::{name}"
    for name in ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "equal", "unique", "_unique2")
}


class WaitedError(AssertionError):
    """An operation that waits for the device."""


class Watched(TorchDispatchMode):
    """Refuses what waits; counts the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        name = func._schema.name
        by_flags = "index" in name and any(
            isinstance(one, Tensor) and one.dtype == torch.bool
            for arg in args
            if isinstance(arg, list | tuple)
            for one in arg
        )
        if name in FORBIDDEN or by_flags:
            raise WaitedError(name)
        return func(*args, **(kwargs or {}))


class Asked(TorchFunctionMode):
    """Refuses what gives numbers to Python without an operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.cpu):
            raise WaitedError(func.__name__)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def watching(watch: Watched) -> Iterator[None]:
    with Asked(), watch:
        yield


@contextlib.contextmanager
def on_cuda() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def plain(jobs: list[ClientJob], layout: Layout) -> list[ClientJob]:
    return jobs


def ruled(made: Callable[[], Any]) -> Callable[[list[ClientJob], Layout], list[ClientJob]]:
    def changed(jobs: list[ClientJob], layout: Layout) -> list[ClientJob]:
        sent = torch.rand(layout.size, generator=torch.Generator().manual_seed(2)) if made is FedLEx else None
        return [replace(job, rule=RoundRule(made(), 1, 4, sent)) for job in jobs]

    return changed


def summed(jobs: list[ClientJob], layout: Layout) -> list[ClientJob]:
    return [replace(job, accumulate=frozenset({"gradients", "squares"}), snapshot=1) for job in jobs]


def scored(jobs: list[ClientJob], layout: Layout) -> list[ClientJob]:
    draws = torch.Generator().manual_seed(3)
    theta = torch.randn(layout.size, generator=draws)
    return [replace(job, mask=None, scoring=Scoring(FedPM(), theta)) for job in jobs]


SGD = TrainingSchedule(epochs=3, batch_size=8, momentum=0.9, weight_decay=0.01)
CASES: dict[str, tuple[Callable[[], nn.Module], TrainingSchedule, Any]] = {
    "mlp": (mlp, SGD, plain),
    "cnn": (cnn, SGD, plain),
    "adam": (mlp, TrainingSchedule(epochs=2, batch_size=8, optimizer="adam", lr=1e-3), plain),
    "augmented": (cnn, SGD.model_copy(update={"augment": Augmentation(flip=0.5, crop=1, jitter=0.2)}), plain),
    "proximal": (mlp, SGD, ruled(lambda: Proximal(mu=0.1))),
    "fedlex": (mlp, SGD, ruled(FedLEx)),
    "masks that move": (mlp, SGD, ruled(Regrow)),
    "sums and notes": (mlp, SGD, summed),
    "trained masks": (mlp, SGD, scored),
}
PRIVATE = {"analytic mlp": mlp, "analytic cnn": cnn, "plain": deep}


def work(make: Callable[[], nn.Module], change: Any, steps: PrivateSteps | None = None) -> Any:
    module, layout, x, jobs = problem(make, [40] * 3 if steps else SIZES, steps)
    return module, layout, x, change(jobs, layout)


def trained(given: Any, schedule: TrainingSchedule, device: str = "cpu") -> list[Tensor]:
    module, layout, x, jobs = given
    trainer = StackedTrainer(device=device)
    trainer.pixels = PixelRange((0.0,), (1.0,))
    found = trainer.train(module, layout, x, jobs, schedule)
    return [found.updates, found.losses, *found.sums.values()]


def inside(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``watch`` is entered around the steps of every stack of plain jobs."""
    run = stacked._Stack.run

    def watched(self: Any, *args: Any) -> None:
        with watch():
            run(self, *args)

    monkeypatch.setattr(stacked._Stack, "run", watched)


def from_the_first_step(watch: Any, monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack) -> None:
    """``watch`` is entered with the first step of private jobs."""
    make, begun = private.clipped_sums, list[bool]()

    def watched(*args: Any) -> Any:
        sums = make(*args)

        def call(*given: Any) -> Any:
            if not begun:
                begun.append(True)
                stack.enter_context(watch)
            return sums(*given)

        return call

    monkeypatch.setattr(private, "clipped_sums", watched)


@pytest.fixture(autouse=True)
def _autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs by hand are for processors; what is watched is what a GPU runs."""
    for module in (stacked, private):
        monkeypatch.setattr(module, "chain_program", lambda *_, **__: None)


def never_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    for module in (per_sample, layer_sums):
        monkeypatch.setattr(module, "surely_none", lambda flags: False)


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_a_stack_asks_for_no_number(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, schedule, change = CASES[case]
    expected = trained(work(make, change), schedule)
    watch = Watched()
    inside(lambda: watching(watch), monkeypatch)
    found = trained(work(make, change), schedule)
    assert watch.seen > 100
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", PRIVATE)
def test_a_private_step_asks_for_no_number(case: str, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(jobs: list[ClientJob], layout: Layout) -> list[ClientJob]:
        live = torch.arange(layout.size) % 3 > 0
        return [replace(job, mask=live if masked else None) for job in jobs]

    given = work(PRIVATE[case], change, PrivateSteps(0.5, 1.0))
    schedule = TrainingSchedule(epochs=2, batch_size=8)
    expected = trained(given, schedule)
    never_looking(monkeypatch)
    watch = Watched()
    with contextlib.ExitStack() as stack:
        from_the_first_step(watching(watch), monkeypatch, stack)
        found = trained(given, schedule)
    assert watch.seen > 100
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_watch_sees_what_waits() -> None:
    flags, numbers = torch.tensor([True, False]), torch.arange(2.0)
    waits: tuple[Callable[[], object], ...] = (
        lambda: bool(flags.any()), lambda: float(numbers.sum()), numbers.tolist, lambda: numbers[flags],
        flags.nonzero, lambda: torch.equal(numbers, numbers), lambda: numbers.masked_select(flags), numbers.numpy,
    )  # fmt: skip
    for wait in waits:
        with pytest.raises(WaitedError), watching(Watched()):
            wait()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: CUDA itself refuses what waits")
@pytest.mark.parametrize("case", [*CASES, *PRIVATE])
def test_on_a_gpu_cuda_finds_nothing_that_waits(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case in PRIVATE:
        given = work(PRIVATE[case], plain, PrivateSteps(0.5, 1.0))
        schedule = TrainingSchedule(epochs=2, batch_size=8)
    else:
        make, schedule, change = CASES[case]
        given = work(make, change)
    expected = trained(given, schedule)
    with contextlib.ExitStack() as stack:
        if case in PRIVATE:
            from_the_first_step(on_cuda(), monkeypatch, stack)
        else:
            inside(on_cuda, monkeypatch)
        found = trained(given, schedule, "cuda")
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
