"""PruneFL's choice of weights: the specification's example, and a loop that takes one weight after the other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.reconfiguration import reconfigured

A, B = 3, 3  # hidden weights of two tensors


def layout() -> Layout:
    """Two hidden tensors of three weights, one of three that may not be pruned, no biases."""
    one, two, out = nn.Linear(3, 1, bias=False), nn.Linear(1, 3, bias=False), nn.Linear(3, 1, bias=False)
    return Layout.of(nn.Sequential(one, two, out))


LAYOUT = layout()


def by_hand(
    weights: list[float], mask: list[bool], gains: list[float], rest: float, seconds: list[float], share: float,
    constant: float, most: int | None = None,
) -> list[bool]:  # fmt: skip
    """Word by word: drop-candidates, KEEP, then one weight after the other, the best ratio first."""
    tensors, keep, free = [range(A), range(A, A + B)], set[int](), list[int]()
    for places in tensors:
        live = sorted((j for j in places if mask[j]), key=lambda j: (abs(weights[j]), j))
        going = live[: int(share * len(live))]
        keep |= set(live) - set(going)
        free += [j for j in places if not mask[j] or j in going]
    gamma, theta = rest + sum(gains[j] for j in keep), constant + sum(seconds[j] for j in keep)
    taken = 0
    for j in sorted(free, key=lambda j: (-gains[j] / seconds[j], j)):
        if not gains[j] / seconds[j] > gamma / theta or (most is not None and len(keep) >= most):
            break
        keep.add(j)
        gamma, theta, taken = gamma + gains[j], theta + seconds[j], taken + 1
    return [j in keep for j in range(A + B)]


def ours(
    weights: list[float], mask: list[bool], gains: list[float], rest: float, times: tuple[float, float], share: float,
    constant: float, most: int | None = None,
) -> Tensor:  # fmt: skip
    whole = torch.tensor([*mask, True, True, True])
    return reconfigured(
        torch.tensor([*weights, 9.0, 9.0, 9.0]), whole, torch.tensor([*gains, 0.0, 0.0, 0.0]), rest,
        {"0.weight": times[0], "1.weight": times[1]}, LAYOUT, share=share, constant=constant, most=most,
    )  # fmt: skip


def test_the_example_of_the_specification() -> None:
    # A, t = 1: live (|w|, I) = (.9, 4), (.1, 1), dead I = 6; B, t = 2: live (.5, 2), (.4, 9), dead 5; c = 1, s = .5
    weights, mask = [0.9, -0.1, 0.0, 0.5, -0.4, 0.0], [True, True, False, True, True, False]
    gains = [4.0, 1.0, 6.0, 2.0, 9.0, 5.0]
    found = ours(weights, mask, gains, 0.0, (1.0, 2.0), 0.5, 1.0)
    # KEEP {4, 2}, 6/4; add 6 -> 12/5; add 9 -> 21/7; 5/2 <= 3 stops
    assert found.tolist() == [True, False, True, True, True, False, True, True, True]


def test_everything_may_be_kept_and_nothing_grow_beyond_what_is_allowed() -> None:
    weights, mask = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0], [True] * 3 + [False] * 3
    assert ours(weights, mask, [1.0] * 6, 0.0, (1.0, 1.0), 0.5, 1.0)[:6].all()  # 1 > 2/3, 3/4, 4/5, ...
    assert ours(weights, mask, [1.0] * 6, 0.0, (1.0, 1.0), 0.5, 1.0, most=4)[:6].sum() == 4
    assert ours(weights, mask, [0.0] * 6, 0.0, (1.0, 1.0), 0.5, 1.0)[:6].sum() == 2  # of 0 nothing is worth it
    assert ours(weights, mask, [1.0] * 6, 100.0, (1.0, 1.0), 0.5, 1.0)[:6].sum() == 2  # the rest is worth more


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.booleans(), st.integers(0, 50)), min_size=6, max_size=6),
    st.integers(0, 60), st.sampled_from([(1.0, 1.0), (1.0, 2.0), (0.25, 3.0)]), st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    st.sampled_from([0.5, 1.0, 8.0]), st.sampled_from([None, 0, 3, 5]),
)  # fmt: skip
def test_it_is_the_loop(
    weights: list[tuple[int, bool, int]], rest: int, times: tuple[float, float], share: float, constant: float,
    most: int | None,
) -> None:  # fmt: skip
    sizes, mask, gains = ([one[place] for one in weights] for place in range(3))
    seconds = [times[0]] * A + [times[1]] * B
    wanted = by_hand([float(w) for w in sizes], [bool(m) for m in mask], [float(g) for g in gains], float(rest),
                     seconds, share, constant, most)  # fmt: skip
    found = ours([float(w) for w in sizes], [bool(m) for m in mask], [float(g) for g in gains], float(rest), times,
                 share, constant, most)  # fmt: skip
    assert found[: A + B].tolist() == wanted
    assert found[A + B :].all()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_model_without_hidden_weights_stays_as_it_is(share: float) -> None:
    alone = Layout.of(nn.Sequential(nn.Linear(3, 2)))
    mask = torch.ones(alone.size, dtype=torch.bool)
    found = reconfigured(
        torch.ones(alone.size), mask, torch.ones(alone.size), 1.0, {}, alone, share=share, constant=1.0
    )
    assert torch.equal(found, mask)
