"""What is released, summed up in shares and made smaller, under the names of ``conformance/*.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.mechanisms import AdaptiveClip, ClientLevel
from autoflip_secure.defenses.secure_aggregation.shares import Seed
from autoflip_secure.interfaces import ClientJob, PrivacyView, PrivateSteps, TrainingSchedule
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.seeds import PrivateDraws
from autoflip_secure.training import StackedTrainer

Rows = list[list[float]]


class Drawn(np.random.Generator):
    """Gives what was drawn, one request after the other; and everybody joins every batch."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(np.random.Philox(0))
        self._answers = [np.asarray(answer, dtype=np.float64) for answer in answers]

    def standard_normal(self, size: Any = None) -> Any:  # type: ignore[override]
        """The next of the answers."""
        answer = self._answers.pop(0)
        return float(answer) if size is None else answer.reshape(size)

    def random(self, size: Any) -> Any:  # type: ignore[override]
        """Below every chance."""
        return np.zeros(size)


@dataclass(frozen=True)
class OneStream(PrivateDraws):
    """Private draws that are the same at every address."""

    noise: tuple[float, ...] = ()

    def generator(self, *address: int) -> Drawn:
        """Of the noise that was drawn."""
        return Drawn(self.noise)


def _view(rows: Tensor, sigma: float, clients: float, own: Sequence[Drawn], server: Drawn) -> PrivacyView:
    everybody, everything = torch.ones(len(rows)).bool(), torch.ones(rows.shape[1]).bool()
    return PrivacyView(1, everybody, everything, clients, sigma, list(own), server)


def _noised_release(rows: Rows, bound: float, sigma: float, clients: int, noise: Rows) -> Tensor:
    mechanism, sent = ClientLevel(noise_multiplier=sigma, clip=bound, noise="distributed"), torch.tensor(rows)
    return mechanism.send(mechanism.start(), sent, _view(sent, sigma, clients, [Drawn(one) for one in noise], Drawn()))


def _noised_mean(rows: Rows, bound: float, sigma: float, clients: int, noise: list[float]) -> Tensor:
    mechanism, sent = ClientLevel(noise_multiplier=sigma, clip=bound, noise="central"), torch.tensor(rows)
    view = _view(sent, sigma, clients, [Drawn()] * len(rows), Drawn(noise))
    clipped = mechanism.send(mechanism.start(), sent, view)
    return mechanism.publish(mechanism.start(), clipped.sum(0) / clients, clipped, view)[0]


def _adaptive_clip(
    rows: Rows, bound: float, quantile: float, rate: float, sigma: float, clients: int, noise: float
) -> list[float]:
    clip = AdaptiveClip(start=bound, quantile=quantile, lr=rate, noise_multiplier=sigma)
    mechanism, sent = ClientLevel(noise_multiplier=sigma, clip=clip, noise="central"), torch.tensor(rows)
    view = _view(sent, sigma, clients, [], Drawn(np.zeros(sent.shape[1]), noise))
    return [mechanism.publish(mechanism.start(), sent.mean(0), sent, view)[1].clip]


def _dp_sgd_step(
    weights: Rows, samples: Rows, labels: list[int], bound: float, sigma: float, expected: int, rate: float, noise: Rows
) -> Tensor:
    """Batches of all samples, each of which joins with chance 1."""
    assert expected == len(samples)
    start, x = torch.tensor(weights), torch.tensor(samples)
    module = nn.Linear(start.shape[1], len(start), bias=False)
    layout, rows = Layout.of(module), torch.arange(len(x))
    draws = OneStream(b"", noise=tuple(number for row in noise for number in row))
    job = ClientJob(
        start.flatten(), rows, torch.tensor(labels), 0, (1, 0), private=PrivateSteps(bound, sigma), draws=draws
    )
    schedule = TrainingSchedule(lr=rate, batch_size=expected, epochs=1)
    return start + StackedTrainer().train(module, layout, x, [job], schedule).updates[0].reshape(start.shape)


def _fixed_point(values: list[float], bits: int) -> list[int]:
    encoded: list[int] = FixedPoint(bits, 1e4).encode(torch.tensor([values], dtype=torch.float64), [0])[0].tolist()
    return encoded


def _shares_sum(shares: list[list[int]], bits: int) -> Tensor:
    return FixedPoint(bits, 1e4).decode(torch.tensor(shares, dtype=torch.int64).sum(0))


def _share_bytes(key: str, count: int) -> list[int]:
    return list(Seed(bytes.fromhex(key), count // 8).words().numpy().astype("<i8").tobytes())


def _compacted_chain(weights: list[Rows], biases: Rows, masks: list[list[list[int]]]) -> list[Any]:
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        layer = nn.Linear(len(weight[0]), len(weight))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
        layers += [layer, nn.ReLU()]
    module = nn.Sequential(*layers[:-1])
    layout, units = Layout.of(module), find_units(module, torch.zeros(1, len(weights[0][0])))
    mask = torch.ones(layout.size, dtype=torch.bool)
    for number, own in enumerate(masks):
        mask[layout[f"{2 * number}.weight"].slice] = torch.tensor(own).bool().flatten()
    smaller = compact(module, units, layout, layout.vector(module), mask)
    return [tensor.detach().tolist() for tensor in smaller.parameters()]


RELEASES: dict[str, Callable[..., Any]] = {
    "noised_release": _noised_release,
    "noised_mean": _noised_mean,
    "adaptive_clip": _adaptive_clip,
    "dp_sgd_step": _dp_sgd_step,
    "fixed_point": _fixed_point,
    "shares_sum": _shares_sum,
    "share_bytes": _share_bytes,
    "compacted_chain": _compacted_chain,
}
