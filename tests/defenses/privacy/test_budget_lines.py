"""The sum over runs as numbers: client by client, by Opacus beside, and never less than any part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from sizes import sized

from autoflip_secure.defenses.privacy.budget import Spent, budget_lines, client_lines
from autoflip_secure.records.budget import Budget, BudgetLine
from autoflip_secure.records.privacy import Release
from autoflip_secure.reports.wording.budget import remarks, rows, sentences

DELTA = 1e-5


def release(client: int | None, sigma: float, rate: float = 1.0, steps: int = 1, **more: Any) -> Release:
    base: dict[str, Any] = {
        "name": "updates", "observer": "server", "client": client, "first_round": 1, "last_round": 1,
        "mechanism": "gaussian", "relation": "zero out one client", "sampling": "none" if rate == 1 else "poisson",
        "rate": rate, "population": 100, "steps": steps, "noise_multiplier": sigma, "reason": "", "post_processing": [],
    }  # fmt: skip
    return Release.model_validate({**base, **more})


def spent(division: str, *releases: Release) -> Spent:
    return Spent(division, "client", (releases,))


def server(cells: Sequence[Spent], delta: float = DELTA) -> BudgetLine:
    (line,) = (line for line in budget_lines(cells, delta) if line.observer == "server")
    return line


def by_opacus(*parts: tuple[float, float, int]) -> float:
    """Epsilon of (sigma, rate, steps), composed by Rényi accounting at Opacus's own orders."""
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64)) + [96, 128, 192, 256, 384, 512]
    total = sum(compute_rdp(q=q, noise_multiplier=s, steps=n, orders=orders) for s, q, n in parts)
    return float(get_privacy_spent(orders=orders, rdp=total, delta=DELTA)[0])


def test_cells_that_divide_the_data_alike_add_up_client_by_client() -> None:
    one = spent("a", release(0, 4.0, steps=5), release(1, 4.0, steps=1))
    other = spent("a", release(0, 8.0, steps=2), release(1, 2.0, steps=3))
    line = server([one, other])
    expected = {0: by_opacus((4.0, 1.0, 5), (8.0, 1.0, 2)), 1: by_opacus((4.0, 1.0, 1), (2.0, 1.0, 3))}
    for client, epsilon in line.clients:  # PRV is tighter than Rényi accounting, by less than a tenth here
        assert 0.88 * expected[client] < epsilon < 1.01 * expected[client]
    assert line.epsilon == max(epsilon for _, epsilon in line.clients)
    assert line.cells == 2


def test_under_other_divisions_somebody_may_pay_most_in_each() -> None:
    """Client 0 pays most in the first, client 1 in the second: one person may have been both."""
    one = spent("a", release(0, 2.0, steps=5), release(1, 9.0))
    other = spent("b", release(0, 9.0), release(1, 2.0, steps=5))
    assert server([one, other]).epsilon == pytest.approx(by_opacus((2.0, 1.0, 10)), rel=0.02)
    assert not server([one, other]).clients
    alike = server([one, spent("a", *other.attempts[0])]).epsilon
    assert alike is not None
    assert alike < 0.8 * by_opacus((2.0, 1.0, 10))


def test_whoever_is_not_named_pays_too() -> None:
    line = server([spent("a", release(None, 3.0, steps=2)), spent("b", release(None, 3.0, 0.1, steps=4))])
    bound = by_opacus((3.0, 1.0, 2), (3.0, 0.1, 4))
    assert line.epsilon is not None
    assert 0.85 * bound < line.epsilon < 1.01 * bound


ROWS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([1.0, 3.0]), st.integers(1, 9)), min_size=1, max_size=3)
CELLS = st.lists(st.tuples(st.sampled_from("ab"), ROWS), min_size=1, max_size=4)


@given(CELLS)
@settings(max_examples=sized(5, 20), deadline=None)
def test_the_sum_is_no_less_than_any_part_of_it(cells: list[tuple[str, list[tuple[int, float, int]]]]) -> None:
    made = [spent(division, *(release(k, s, steps=n) for k, s, n in found)) for division, found in cells]
    whole = server(made).epsilon
    assert whole is not None
    for part in (made[1:], made[:-1]):
        if part:
            assert (server(part).epsilon or 0) <= whole * 1.02 + 0.02  # PRV's error where it is asked


def test_no_guarantee_in_one_cell_is_none_for_all() -> None:
    bare = spent("a", release(None, 0.0, mechanism="none", reason="the server is trusted"))
    line = server([spent("a", release(None, 3.0)), bare])
    assert (line.epsilon, line.reason) == (None, "the server is trusted")
    unbounded = server([spent("a", release(None, 0.0, mechanism="none")), spent("b", release(None, 3.0))])
    assert unbounded.epsilon is None


def test_other_neighbours_are_another_line() -> None:
    samples = Spent("a", "sample", ((release(0, 3.0, relation="replace one client"),),))
    lines = [line for line in budget_lines([spent("a", release(0, 3.0)), samples], DELTA) if line.observer == "server"]
    assert len(lines) == 2
    found = Budget(data="d", delta=DELTA, cells=2, bare=1, divisions=2, lines=lines, notes=[])
    assert [key for key in ("no bound", "divided", "do not add up") if any(key in r for r in remarks(found))]
    assert len(remarks(found)) == 3
    assert all("δ = 1e-05" in row["everything together"] for row in rows(found))
    assert "ε ≤" in sentences(found)[1]


def test_attempts_whose_proofs_are_about_other_neighbours_are_other_lines() -> None:
    """What counts a client's every participation does not bound what is released when another takes its place."""
    first, again = (release(0, 3.0, steps=4),), (release(None, 2.0, rate=0.4, steps=6, relation="replace one client"),)
    lines = {line.relation: line for line in budget_lines([Spent("a", "client", (first, again))], DELTA)}
    alone = [server([Spent("a", "client", (one,))]) for one in (first, again)]
    assert [lines[one.relation] for one in alone] == alone
    assert {line.attempts for line in lines.values()} == {1}
    assert {(line.relation, line.releases) for line in client_lines([Spent("a", "client", (first, again))], DELTA, "d")
            } == {("zero out one client", 4), ("replace one client", 6)}  # fmt: skip


def test_no_guarantee_is_a_line_without_a_number() -> None:
    bare = spent("a", release(None, 0.0, mechanism="none", reason="the server is trusted"))
    (line,) = client_lines([bare, spent("a", release(None, 3.0))], DELTA, "digits")
    assert (line.client, line.epsilon, line.reason) == ("every", None, "the server is trusted")
    named = client_lines([spent("a", release(None, 3.0), release(4, 3.0))], DELTA, "digits")
    assert [(one.client, one.releases) for one in named] == [("4", 2), ("any other", 1)]
