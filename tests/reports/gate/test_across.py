"""Settings that were changed on purpose: what meets what, what cannot, and what is said of it."""

from typing import Any

import pytest
from gated import baseline, gate, take

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.files import summary
from autoflip_secure.reports.gate.output import as_data, lines


def changed(records: list[RunRecord], **settings: Any) -> list[RunRecord]:
    """The same runs under other settings of training."""
    return [
        r.model_copy(update={"config": {**r.config, "training": {**r.config["training"], **settings}}}) for r in records
    ]


def test_a_changed_setting_is_compared_across_by_axes_and_seed(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(5))
    held, now = baseline(records), changed(records, lr=0.3)
    with pytest.raises(InputError, match=r"no configuration of the sweep is in the baseline.*training\.lr"):
        gate(now, held)
    result = gate(now, held, across=["training.lr"])
    assert (result.exit_code, result.missing, result.new) == (0, [], [])
    assert len(result.lines) == len(gate(records, held).lines)
    assert {line.judgement.comparison.method for line in result.lines} == {"exact"}  # the same numbers, seed by seed
    assert {line.judgement.comparison.seeds for line in result.lines} == {(5, 5)}
    before = records[0].config["training"]["lr"]
    assert result.across == [f"training.lr {before:g} -> 0.3 (8 configurations)"]
    for text in ("\n".join(lines(result)), summary(result), str(as_data(result))):
        assert "training" in text
        assert "0.3 (8 configurations)" in text.replace("&gt;", ">")


def test_a_loss_across_is_a_regression(pool: dict[int, list[RunRecord]]) -> None:
    from planted import moved

    records = take(pool, range(5))
    now = [moved(r, -0.2) for r in changed(records, lr=0.3)]
    assert gate(now, baseline(records), across=["training.lr"]).exit_code == 1


def test_a_whole_part_and_several_paths(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(5))
    now = changed(records, lr=0.3, batch_size=99)
    with pytest.raises(InputError, match=r"training\.batch_size: \d+ -> 99"):
        gate(now, baseline(records), across=["training.lr"])
    both = gate(now, baseline(records), across=["training.lr", "training.batch_size"])
    whole = gate(now, baseline(records), across=["training"])
    assert (both.exit_code, whole.exit_code) == (0, 0)
    assert len(both.across) == 2
    assert whole.across[0].count(" -> ") == 2
    idle = gate(now, baseline(records), across=["training", "rounds"])
    assert idle.across[-1] == "rounds does not differ"


def test_what_is_equal_meets_first(pool: dict[int, list[RunRecord]]) -> None:
    """A sweep over the setting: the value of the baseline meets itself, and the others have no baseline."""
    records = take(pool, range(5))
    result = gate(records + changed(records, lr=0.3), baseline(records), across=["training.lr"])
    assert result.exit_code == 0
    assert len(result.new) == 8
    assert {line.judgement.comparison.method for line in result.lines} == {"identical"}


def test_what_is_ambiguous_or_unknown_is_refused(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(5))
    held = baseline(records)
    with pytest.raises(
        InputError, match=r"--across attack\.sigma: 2 configurations of the sweep differ in nothing else"
    ):
        gate(changed(records, lr=0.3), held, across=["training.lr", "attack.sigma"])
    with pytest.raises(
        InputError, match=r"--across training\.lrr: no configuration has this setting; did you mean 'tra"
    ):
        gate(records, held, across=["training.lrr"])
    two = changed(records, lr=0.3) + changed(records, lr=0.4)
    with pytest.raises(InputError, match="leave out a path that is an axis of the sweep"):
        gate(two, held, across=["training.lr"])
