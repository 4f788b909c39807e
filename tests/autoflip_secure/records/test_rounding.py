"""Bounds in print are on the safe side."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.records.rounding import lower_text, upper_delta, upper_number, upper_text


@given(st.floats(min_value=0, max_value=1e12), st.integers(0, 6))
def test_what_is_printed_is_never_on_the_wrong_side(value: float, places: int) -> None:
    assert float(upper_text(value, places)) >= value >= float(lower_text(value, places))
    assert upper_number(value, places) >= value


@given(st.floats(min_value=0, max_value=99), st.integers(0, 6))
def test_and_not_further_than_one_unit_of_the_last_place(value: float, places: int) -> None:
    assert float(upper_text(value, places)) - float(lower_text(value, places)) <= 1.0001 * 10**-places


@given(st.floats(min_value=1e-30, max_value=1))
def test_delta(value: float) -> None:
    assert value <= float(upper_delta(value)) <= 1.1000001 * value


@pytest.mark.parametrize("text", ["2.87", "0.30", "12.70", "99.99"])
def test_a_number_that_is_short_already_stays(text: str) -> None:
    assert upper_text(float(text)) == lower_text(float(text)) == text


def test_no_bound() -> None:
    assert upper_text(None) == upper_text(float("inf")) == "no bound"
    assert upper_number(float("inf")) == float("inf")
    assert upper_text(-0.0) == lower_text(-0.0) == "0.00"


# ------------------------------------------------------------------------------------------------ nobody else rounds

ROOT = Path(__file__).parents[3]
PROVEN = re.compile(
    r"epsilon|delta|\brdp\b|\bprv\b|\bpld\b|proven|\blower\b|\bceiling\b|reached|training\b", re.IGNORECASE
)
GIVEN = re.compile(  # settings as the user wrote them, accuracies, and the name of a vector
    r"target_epsilon|mechanism\.delta|privacy\.delta|self\.lower|\bdelta\.(norm|double)|outcome\.delta|config|0\.1 / n"
)
NUMERIC = re.compile(r"[efgn%]$")
ROUNDS = re.compile(r"\bround\(|\bformat\(|(?<![A-Za-z_])[efgn%]\}")  # a source without need not be parsed


def roundings(source: str) -> Iterator[str]:
    """Expressions that an f-string or ``round`` brings to the nearest number."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            spec = "".join(str(part.value) for part in ast.walk(node.format_spec) if isinstance(part, ast.Constant))
            if NUMERIC.search(spec):
                yield ast.unparse(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("round", "format"):
            yield ast.unparse(node.args[0])


def test_nothing_else_rounds_what_is_proven() -> None:
    """By name: whatever is called epsilon, delta, proven or lower bound is written by records.rounding."""
    found = {
        f"{path.relative_to(ROOT)}: {text}"
        for folder in ("autoflip_secure", "attacks", "defenses", "scenarios", "reports")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "rounding.py"
        for source in [path.read_text(encoding="utf-8")]
        if PROVEN.search(source) and ROUNDS.search(source)
        for text in roundings(source)
        if PROVEN.search(text) and not GIVEN.search(text)
    }
    given = {  # as the user gave it
        "autoflip_secure/commands/budget.py: delta", "scenarios/logs/checks.py: log.delta",
        "scenarios/store/budget.py: delta",
    }  # fmt: skip
    assert found == given


def test_the_search_finds_what_it_looks_for() -> None:
    planted = (
        'f"{entry.epsilon:.2f} {worst.delta:.2g} {bound.lower:.{places}f} {accuracy:.1f}", round(privacy.proven, 2)'
    )
    found = {text for text in roundings(planted) if PROVEN.search(text) and not GIVEN.search(text)}
    assert found == {"privacy.proven", "entry.epsilon", "worst.delta", "bound.lower"}
