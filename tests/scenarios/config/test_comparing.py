"""The key ``compare``: no cell knows of it, and what the sweep does not vary is refused in one sentence."""

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.loading import load

SMALL = ("seeds=[10]", "sweep.attack=[none]")


def test_it_is_in_no_cell() -> None:
    plain = load("privacy_cost", SMALL)
    chosen = load("privacy_cost", (*SMALL, "compare=[algorithm, privacy.target_epsilon]"))
    assert [(c.key, c.conditions) for c in chosen.cells] == [(c.key, c.conditions) for c in plain.cells]
    assert all("compare" not in cell.config for cell in chosen.cells)
    assert chosen.written["compare"] == ["algorithm", "privacy.target_epsilon"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("compare=privcy", "--set compare=privcy: compare: 'privcy' is no axis of the sweep; did you mean 'privacy'?"),
        ("compare=secure_sum", "compare: 'secure_sum' is no axis of the sweep; .*allowed: algorithm, attack, privacy"),
        ("compare=[privacy, clients]", "compare: 'clients' is no axis of the sweep"),
        ("compare=5", "compare = 5: should be algorithm, privacy, secure_sum, attack, another axis"),
        ("compare=[]", r"compare = \[\]: should be algorithm"),
        ("compare=[[1]]", r"compare = \[\[1\]\]: should be algorithm"),
        ("compare={a: 1}", r"compare = \{'a': 1\}: should be algorithm"),
    ],
)
def test_what_is_no_axis_is_refused_in_one_sentence(written: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as found:
        load("privacy_cost", (*SMALL, written))
    assert len(str(found.value).splitlines()) == 1


def test_without_a_sweep_nothing_is_compared() -> None:
    with pytest.raises(InputError, match="nothing varies; give a sweep over it, or leave compare out"):
        load("privacy_cost", ("compare=privacy", "sweep=null"))
    assert load("privacy_cost", ("sweep=null", "seeds=[10]")).cells


def test_it_is_no_axis_itself() -> None:
    with pytest.raises(InputError, match="'compare' cannot be an axis"):
        load("privacy_cost", ("sweep={product: {compare: [algorithm, privacy]}}",))
