"""What a notebook has set in torch changes nothing of a run, and is there again after it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch

import autoflip_secure as af

SMALL: dict[str, Any] = {
    "clients": 3,
    "cohort": 2,
    "rounds": 2,
    "training": {"epochs": 1},
    "data": {"kind": "digits", "train_samples": 60, "test_samples": 30},
    "model": {"kind": "mlp", "hidden": [4]},
    "seeds": [1],
    "algorithm": "fedavg",
}


def losses() -> list[float | None]:
    return [one.test_loss for one in af.run(SMALL, workers=1).records[0].rounds]


@pytest.fixture(scope="module")
def usual() -> list[float | None]:
    return losses()


@contextmanager
def set_to(change: Callable[[Any], None], value: object, usual: object) -> Iterator[None]:
    change(value)
    try:
        yield
    finally:
        change(usual)


@pytest.mark.parametrize(
    ("state", "now"),
    [
        (lambda: set_to(torch.set_default_dtype, torch.float64, torch.float32), torch.get_default_dtype),
        (lambda: set_to(torch.set_grad_enabled, False, True), torch.is_grad_enabled),
        (lambda: set_to(torch.set_default_device, "meta", None), torch.get_default_device),
        (lambda: set_to(torch.set_float32_matmul_precision, "medium", "highest"), torch.get_float32_matmul_precision),
        (torch.inference_mode, torch.is_inference_mode_enabled),
        (lambda: torch.autocast("cpu"), lambda: torch.is_autocast_enabled("cpu")),
    ],
    ids=["dtype", "no gradients", "device", "precision", "inference", "autocast"],
)
def test_runs_have_torch_as_a_new_process_has_it(
    state: Callable[[], AbstractContextManager[Any]], now: Callable[[], object], usual: list[float | None]
) -> None:
    with state():
        before = now()
        assert losses() == usual
        assert now() == before
