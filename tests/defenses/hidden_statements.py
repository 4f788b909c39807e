"""Statements, rows that pass them, and the equation by Python integers: for the tests of hidden scores."""

import torch
from torch import Tensor

from autoflip_secure.profile import GROUPS
from defenses.prime_field import P
from defenses.statements import LARGEST, SCALE, Passes, Statement

SENT = 120


def words(values: list[int]) -> Tensor:
    """Integers of 64 bits."""
    return torch.tensor(values, dtype=torch.int64)


def passing(seed: int, heading: bool = True, affinity: bool = True) -> tuple[Passes, Tensor]:
    """A statement and a row that passes it with little room."""
    draw = torch.Generator().manual_seed(seed)
    groups = torch.arange(SENT) * GROUPS // SENT
    groups[::17] = -1
    live = groups >= 0
    row = (torch.randn(SENT, generator=draw, dtype=torch.float64) * torch.exp(-groups / 4.0)) * 2**16
    row = (row / (row * live).norm() * (0.9 * LARGEST)).round().long()
    profile = torch.zeros(GROUPS, dtype=torch.float64).index_add(0, groups.clamp_min(0), (row * live).double().square())
    a = (profile / profile.sum()).sqrt()
    h = row * live + 2**20 * torch.randn(SENT, generator=draw, dtype=torch.float64) * live
    cosine = float((row * live).double() @ h / ((row * live).double().norm() * h.norm()))
    statement = Passes(
        groups=groups,
        affinity=(a * SCALE).round().long() if affinity else None,
        profile=int(0.99 * SCALE) if affinity else 0,
        heading=(h / h.norm() * SCALE).round().long() if heading else None,
        direction=int((cosine - 0.01) * SCALE) if heading else 0,
        signs=seed,
    )
    return statement, row


def residue(statement: Statement, vector: Tensor, seed: int = 5) -> int:
    """f(v) by Python integers."""
    equation = statement.equation(seed)
    values = zip(equation.squares.tolist(), equation.linear.tolist(), vector.tolist(), strict=True)
    return (sum(q * v * v + lin * v for q, lin, v in values) + equation.constant) % P


def vector_of(statement: Passes, row: Tensor, counts: int) -> Tensor:
    """Row, b and the honest witness."""
    return torch.cat([row, words([counts]), statement.witness(row, counts)])
