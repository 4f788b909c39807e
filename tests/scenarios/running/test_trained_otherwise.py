"""Whoever goes on with a folder that an earlier arithmetic began is told."""

from __future__ import annotations

from synthetic_records import make_record

from autoflip_secure.federation.measures import versions
from autoflip_secure.scenarios.running.keeping import trained_otherwise
from autoflip_secure.training import ARITHMETIC


def test_only_where_more_cells_follow_and_some_there_are_of_another_kind() -> None:
    old = make_record("fedavg", {"kind": "pathological"}, {"kind": "none"}, 1)
    assert "training" not in old.versions
    new = old.model_copy(update={"versions": versions()})
    assert new.versions["training"] == ARITHMETIC
    assert trained_otherwise([new, new], 3) is None
    assert trained_otherwise([], 3) is None
    assert trained_otherwise([old], 0) is None
    told = trained_otherwise([new, old], 1)
    assert told is not None
    assert f"(1, now {ARITHMETIC})" in told
    assert "--out" in told
