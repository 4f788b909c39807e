"""Which sums a party helps to reveal: none from which, with the one before, a single row follows."""

from fractions import Fraction

import hypothesis.strategies as st
from hypothesis import given

from autoflip_secure.defenses.secure_aggregation.share_store import tells_one


def follows(sums: list[list[int]]) -> bool:
    """By elimination in fractions, once per client: does its row lie in the span of the sums?"""

    def rank(rows: list[list[Fraction]]) -> int:
        found = 0
        for column in range(len(rows[0])):
            pivot = next((r for r in rows[found:] if r[column]), None)
            if pivot is None:
                continue
            rows.remove(pivot)
            rows.insert(found, pivot)
            for other in rows[found + 1 :]:
                factor = other[column] / pivot[column]
                other[:] = [a - factor * b for a, b in zip(other, pivot, strict=True)]
            found += 1
        return found

    asked = [[Fraction(w) for w in row] for row in sums]
    whole = rank([row[:] for row in asked])
    one = [[Fraction(int(j == k)) for j in range(len(sums[0]))] for k in range(len(sums[0]))]
    return whole == 0 or any(rank([row[:] for row in asked] + [unit[:]]) == whole for unit in one)


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=1, max_size=2)
    )
)
def test_a_sum_is_refused_exactly_when_a_row_follows(sums: list[list[int]]) -> None:
    if any(any(row) for row in sums):
        assert tells_one(sums) == follows(sums)
