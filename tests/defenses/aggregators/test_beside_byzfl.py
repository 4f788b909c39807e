"""Every rule that byzfl has too gives byzfl's numbers, on the same options, to 6e-8.

In double, where it is right: it turns tensors into single precision, so it is given arrays; its median takes the
lower of the middle two, and is asked about odd numbers of rows; its ARC and its clipping change what they are given;
its centred clipping cannot be given a centre, and starts from 0; its CAF and SMEA take one power iteration from a
random start, and are held to exact vectors instead (``conformance/``). Rows of a run are single, and may lose what
single precision loses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import byzfl
import pytest
import torch
from shared_rules import view
from sizes import crossed
from torch import Tensor, nn

from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.geometric_median import GeometricMedian
from autoflip_secure.defenses.aggregators.krum import Krum, MultiKrum, krum_choice, krum_scores
from autoflip_secure.defenses.aggregators.mda import MDA
from autoflip_secure.defenses.aggregators.meamed import MeaMed
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median, TrimmedMean
from autoflip_secure.defenses.pre_aggregators.arc import ARC
from autoflip_secure.defenses.pre_aggregators.clip import Clip
from autoflip_secure.defenses.pre_aggregators.nnm import NNM
from autoflip_secure.interfaces import Aggregator, PreAggregator, RowsView
from autoflip_secure.models.layout import Layout

LAYOUT = Layout.of(nn.Linear(60, 20))
CLOSE = 6e-8
SINGLE = 3e-7  # a few roundings

Theirs = Callable[[int], Any]  # f -> byzfl's rule
RULES: dict[str, tuple[Callable[[float], Aggregator], Theirs]] = {
    "mean": (lambda share: Mean(weighting="equal"), lambda f: byzfl.Average()),
    "median": (lambda share: Median(), lambda f: byzfl.Median()),
    "trimmed_mean": (lambda share: TrimmedMean(bad_share=share), lambda f: byzfl.TrMean(f=f)),
    "krum": (lambda share: Krum(bad_share=share), lambda f: byzfl.Krum(f=f)),
    "multi_krum": (lambda share: MultiKrum(bad_share=share), lambda f: byzfl.MultiKrum(f=f)),
    "mda": (lambda share: MDA(bad_share=share), lambda f: byzfl.MDA(f=f)),
    "meamed": (lambda share: MeaMed(bad_share=share), lambda f: byzfl.Meamed(f=f)),
    "geometric_median": (
        lambda share: GeometricMedian(tolerance=1e-12, smoothing=1e-6), lambda f: byzfl.GeometricMedian(nu=1e-6, T=3000)
    ),
    "centered_clipping": (
        lambda share: CenteredClipping(radius=20.0, unit="absolute"), lambda f: byzfl.CenteredClipping(L=1, tau=20.0)
    ),
    "centered_clipping, three steps": (
        lambda share: CenteredClipping(radius=20.0, unit="absolute", steps=3),
        lambda f: byzfl.CenteredClipping(L=3, tau=20.0),
    ),
}  # fmt: skip
BEFORE: dict[str, tuple[Callable[[], PreAggregator], Theirs]] = {
    "nnm": (NNM, lambda f: byzfl.NNM(f=f)),
    "arc": (ARC, lambda f: byzfl.ARC(f=f)),
    "clip": (lambda: Clip(norm=20.0, unit="absolute"), lambda f: byzfl.Clipping(c=20.0)),
}
SIZES = {"5 rows": (5, 1), "9 rows": (9, 2), "21 rows": (21, 4), "45 rows": (45, 9)}


def cohort(n: int, f: int) -> Tensor:
    """Rows with something in common, of which f are turned round, in single precision."""
    draws = torch.Generator().manual_seed(n)
    rows = 0.5 * torch.randn(LAYOUT.size, generator=draws) + torch.randn(n, LAYOUT.size, generator=draws)
    rows[1 : 1 + f] *= -3
    return rows


def step(rule: Aggregator, rows: Tensor) -> Tensor:
    """Of the first round, every client with as many samples."""
    shown = replace(view(rows, of=LAYOUT), samples=rows.new_ones(len(rows)), weights=torch.zeros_like(rows[0]))
    return rule.aggregate(rule.start(LAYOUT, shown.weights, len(rows), None), shown).delta


def apart(found: Tensor, expected: Any) -> float:
    """Relative to the length."""
    right = torch.as_tensor(expected).double()
    return float((found.double() - right).norm() / right.norm())


@pytest.mark.parametrize(("kind", "n", "f"), crossed(3, {kind: kind for kind in RULES}, SIZES))
def test_the_step_is_theirs(kind: str, n: int, f: int) -> None:
    rows, (ours, theirs) = cohort(n, f), RULES[kind]
    if kind == "mda" and n > 9:
        pytest.skip("minutes of theirs")
    expected, rule = theirs(f)(rows.double().numpy()), ours(f / n)
    assert apart(step(rule, rows.double()), expected) <= CLOSE
    assert apart(step(rule, rows), expected) <= SINGLE


@pytest.mark.parametrize(("kind", "n", "f"), crossed(3, {kind: kind for kind in BEFORE}, SIZES))
def test_the_rows_are_theirs(kind: str, n: int, f: int) -> None:
    ours, theirs = BEFORE[kind]
    draws = torch.Generator().manual_seed(0)
    for rows, close in ((cohort(n, f).double(), CLOSE), (cohort(n, f), SINGLE)):
        expected = theirs(f)(rows.double().numpy().copy())
        assert apart(ours().mix(RowsView(rows, rows, f, draws)).rows, expected) <= close


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("one_less", [False, True])
def test_krum_chooses_what_exact_scores_choose(one_less: bool, count: int) -> None:
    """Where a Gram matrix is enough and where it is not: copies, near copies, very long rows, all rows alike."""
    plain = cohort(10, 2)
    copies, long, near = plain.clone(), plain.clone(), plain.clone()
    copies[4] = copies[7] = copies[2]
    long[3:5] = 1e17
    near[5] = near[6] * (1 + 1e-6)
    far = 1e9 + 64 * plain.sign()  # what rows differ in is in the last digit
    for rows in (plain, copies, long, near, far, plain[:1].expand(10, -1), plain[:7], 0 * plain):
        expected = krum_scores(rows, 2, one_less).argsort(stable=True)[:count]
        assert krum_choice(rows, 2, count, one_less).sort().values.tolist() == expected.sort().values.tolist()
