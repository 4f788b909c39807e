"""Attacks against numbers worked out elsewhere: a table of exact vectors, ByzFL, and the bounds by bisection."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sizes import sized
from torch import Tensor

from autoflip_secure.attacks.poisoning.fang import Fang
from autoflip_secure.attacks.poisoning.honest_statistics import CollusiveAttack, deviation, largest_unnoticed
from autoflip_secure.attacks.poisoning.inner_product import InnerProduct
from autoflip_secure.attacks.poisoning.largest_deviation import LargestDeviation, MinMax, MinSum
from autoflip_secure.attacks.poisoning.layer_cosines import at_cosine
from autoflip_secure.attacks.poisoning.little_is_enough import LittleIsEnough
from autoflip_secure.attacks.poisoning.mimic import principal_direction
from autoflip_secure.attacks.poisoning.relocated_orthogonal import RelocatedOrthogonal
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.attacks.poisoning.starve import Starve
from autoflip_secure.interfaces import UPDATE, Channel

sys.path.insert(0, str(Path(__file__).parents[3] / "conformance"))

HONEST = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9], [2, 2, 2]])
MEAN = torch.tensor([3.5, 4.25, 5.0])
VECTORS: list[tuple[CollusiveAttack, tuple[float, ...]]] = [
    (InnerProduct(epsilon=0.5), (-1.75, -2.125, -2.5)),
    # ByzFL adds z s, and gets (7.468627, 8.558422, 9.743417): the same distance on the other side of the mean
    (LittleIsEnough(z=1.5), (7 - 7.468627, 8.5 - 8.558422, 10 - 9.743417)),
    (MinMax(), (1.402469, 1.972878, 2.49297)),
    (MinMax(direction="unit"), (1.620866, 1.968194, 2.315523)),
    (MinMax(direction="sign"), (1.19814, 1.94814, 2.69814)),
    (MinSum(), (0.075063, 0.531818, 0.906416)),
    (MinSum(bound="smallest"), (2.791145, 3.480453, 4.152756)),
]


@pytest.mark.parametrize(("attack", "expected"), VECTORS)
def test_exact_vectors(attack: CollusiveAttack, expected: tuple[float, ...]) -> None:
    assert attack.row(HONEST, 1).tolist() == pytest.approx(expected, abs=2e-6)


def test_the_sign_flip_of_the_mean_and_of_its_own() -> None:
    rows, flags, channel = (
        torch.cat([HONEST, torch.ones(1, 3)]),
        torch.tensor([False] * 4 + [True]),
        Channel("x", 3, "rows"),
    )
    assert channel.name != UPDATE
    for attack, expected in ((SignFlip(of="mean"), -MEAN), (SignFlip(scale=2), -2 * torch.ones(3))):
        found = attack.channel(channel, rows, flags, [])
        assert torch.equal(found[4], expected)
        assert torch.equal(found[:4], HONEST)


@pytest.mark.slow
def test_byzfl_agrees() -> None:
    byzfl = pytest.importorskip("byzfl")
    rng = np.random.default_rng(3)
    for honest in (HONEST, torch.from_numpy(rng.normal(size=(9, 40)).astype(np.float32))):
        given_, mean = honest.clone(), honest.mean(0)
        assert torch.allclose(byzfl.SignFlipping()(given_), -mean, atol=1e-6)
        assert torch.allclose(
            byzfl.InnerProductManipulation(2.0)(given_), InnerProduct(epsilon=2).row(honest, 1), atol=1e-5
        )
        theirs = 2 * mean - byzfl.ALittleIsEnough(1.5)(given_)
        assert torch.allclose(theirs, LittleIsEnough().row(honest, 1), atol=1e-5)


def of(make: Any) -> Any:
    """A rule of the conformance vectors: the row from honest rows and options."""
    return lambda honest, **options: make(**options).row(torch.tensor(honest, dtype=torch.float64), 1).tolist()


def flipped(honest: Tensor, scale: float) -> Tensor:
    """What a malicious client sends beside the honest ones."""
    rows, flags = torch.cat([honest, honest[:1]]), torch.tensor([False] * len(honest) + [True])
    return SignFlip(of="mean", scale=scale).channel(Channel("x", honest.shape[1], "rows"), rows, flags, [])[-1]


def krum_reversal(honest: Tensor, malicious: int, attack: Fang) -> list[float]:
    length, picked = attack.length(honest, malicious)
    assert picked
    lie: list[float] = (-length * honest.mean(0).sign()).tolist()
    return lie


def relocated(honest: list[list[float]], last_step: list[float], **options: Any) -> list[float]:
    rows, step = (torch.tensor(one, dtype=torch.float64) for one in (honest, last_step))
    row: list[float] = RelocatedOrthogonal(**options).row(rows, step, torch.ones_like(step)).tolist()
    return row


OURS = {
    "sign_flip_mean": lambda honest, scale: flipped(torch.tensor(honest, dtype=torch.float64), scale).tolist(),
    "ipm": of(InnerProduct), "alie": of(LittleIsEnough), "min_max": of(MinMax), "min_sum": of(MinSum),
    "starve": of(Starve),
    "fang_interval": lambda honest, b: [one.tolist() for one in Fang(b=b).interval(torch.tensor(honest))],
    "fang_krum": lambda honest, malicious, neighbours: krum_reversal(
        torch.tensor(honest, dtype=torch.float64), malicious, Fang(against="krum", neighbours=neighbours)
    ),
    "rop": relocated,
    "alie_z": lambda clients, malicious: [largest_unnoticed(clients - malicious, malicious)],
}  # fmt: skip


def test_the_conformance_vectors() -> None:
    from conformance import check, read

    findings = check(OURS, [case for case in read() if case.file == "attacks"])
    assert {finding.case.rule for finding in findings} == OURS.keys()
    assert [str(finding) for finding in findings if finding.problem != ""] == []


@pytest.mark.parametrize(("n", "f", "z"), [(5, 1, 0), (10, 2, 0), (20, 4, 0.157), (10, 4, 0.431), (20, 8, 0.674)])
def test_the_formula_of_a_little_is_enough(n: int, f: int, z: float) -> None:
    assert largest_unnoticed(n - f, f) == pytest.approx(z, abs=5e-4)


def test_the_formula_where_malicious_clients_are_many_or_alone() -> None:
    assert largest_unnoticed(3, 7) == pytest.approx(0.4307, abs=1e-4)
    assert [largest_unnoticed(h, f) for h, f in ((0, 4), (1, 1), (1, 9))] == [0, 0, 0]


def allowed(attack: LargestDeviation, honest: Tensor, row: Tensor) -> float:
    """How much room the bound leaves for ``row``, relative to the bound."""
    between = torch.cdist(honest, honest, compute_mode="donot_use_mm_for_euclid_dist").square()
    own = (honest - row).square().sum(1)
    if isinstance(attack, MinMax):
        return float(1 - own.max() / between.max())
    sums = between.sum(1)
    bound = sums.max() if isinstance(attack, MinSum) and attack.bound == "largest" else sums.min()
    return float(1 - own.sum() / bound)


ROWS = hnp.arrays(np.float64, st.tuples(st.integers(2, 7), st.integers(1, 6)), elements=st.integers(-20, 20))


@given(ROWS, st.sampled_from([one for one, _ in VECTORS if isinstance(one, LargestDeviation)]))
@settings(max_examples=sized(30, 200))
def test_the_closed_form_is_the_largest_step_that_is_allowed(values: np.ndarray, attack: LargestDeviation) -> None:
    honest = torch.from_numpy(values)
    row, mean = attack.row(honest, 1), honest.mean(0)
    step = row - mean
    if float((honest - mean).norm()) == 0 or float(step.norm()) < 1e-9:
        return
    assert allowed(attack, honest, row) > -1e-6
    assert allowed(attack, honest, mean + 1.01 * step) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [2, 3, 8, 20])
def test_the_standard_deviation_is_torchs_to_the_bit(rows: int, dtype: torch.dtype) -> None:
    spread = torch.logspace(-8, 8, 30_000, dtype=dtype)  # more than a block of columns
    honest = 3 * spread + spread * torch.randn(rows, 30_000, generator=torch.Generator().manual_seed(rows), dtype=dtype)
    honest[:, 5], honest[0, 6], honest[1, 7] = 0.1, torch.inf, torch.nan
    expected = honest.std(dim=0)
    assert torch.equal(deviation(honest).nan_to_num(-1), expected.nan_to_num(-1))
    assert torch.equal(deviation(honest[:, ::3]).nan_to_num(-1), expected[::3].nan_to_num(-1))
    assert not deviation(honest[:1]).any()


@given(ROWS)
@settings(max_examples=sized(20, 100))
def test_the_principal_direction_is_that_of_an_svd(values: np.ndarray) -> None:
    centred = torch.from_numpy(values) - torch.from_numpy(values).mean(0)
    own, expected = principal_direction(centred), float(torch.linalg.matrix_norm(centred, 2))
    assert float((centred @ own).norm()) == pytest.approx(expected, abs=1e-6, rel=1e-5)


@given(ROWS, st.floats(-0.99, 0.99))
@settings(max_examples=sized(20, 100))
def test_a_row_is_turned_to_the_cosine_that_is_asked_for(values: np.ndarray, cosine: float) -> None:
    base, vector = torch.from_numpy(values[0]), torch.from_numpy(values[1])
    found = at_cosine(base, vector, cosine)
    unit = vector / vector.norm().clamp_min(1e-12)
    across = base - (base @ unit) * unit
    if float(vector.norm()) == 0 or float(across.norm()) < 1e-6:
        return
    assert float(found @ unit / found.norm()) == pytest.approx(cosine, abs=1e-6)
    assert torch.allclose(found - (found @ unit) * unit, across)
