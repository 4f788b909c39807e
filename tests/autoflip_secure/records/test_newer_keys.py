"""Newer keys are in a configuration only off their default, and are there when configurations are compared."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from autoflip_secure.records.newer_keys import with_newer, without_newer

NEWER = {"momentum": 0.0, "part.rule": {"kind": "none"}, "attack.extra": 1, "nobody.has.it": None}


@pytest.fixture(autouse=True)
def _newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoflip_secure.records.newer_keys.NEWER", NEWER)


@pytest.mark.parametrize(
    ("whole", "short", "filled"),
    [
        (
            {"momentum": 0.0, "part": {"rule": {"kind": "none"}, "x": 1}, "attack": {"kind": "flip", "extra": 1}},
            {"part": {"x": 1}, "attack": {"kind": "flip"}},
            {"momentum": 0.0, "part": {"rule": {"kind": "none"}, "x": 1}, "attack": {"kind": "flip"}},
        ),
        (
            {"momentum": 0.9, "part": {"rule": {"kind": "prox", "mu": 1}}, "attack": {"kind": "flip", "extra": 2}},
            {"momentum": 0.9, "part": {"rule": {"kind": "prox", "mu": 1}}, "attack": {"kind": "flip", "extra": 2}},
            {"momentum": 0.9, "part": {"rule": {"kind": "prox", "mu": 1}}, "attack": {"kind": "flip", "extra": 2}},
        ),
        ({"part": None, "attack": "none"}, {"part": None, "attack": "none"},
         {"momentum": 0.0, "part": None, "attack": "none"}),
    ],
)  # fmt: skip
def test_by_hand(whole: dict[str, Any], short: dict[str, Any], filled: dict[str, Any]) -> None:
    before = copy.deepcopy(whole)
    assert without_newer(whole) == short
    assert with_newer(short) == filled
    assert whole == before
    assert without_newer(short) == short
    assert with_newer(filled) == filled


def test_the_option_of_one_kind_is_left_alone_in_others(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"algorithm.aggregator.weighting": "samples"}
    monkeypatch.setattr("autoflip_secure.records.newer_keys.NEWER", table)

    def dumped(kind: str) -> dict[str, Any]:
        return {"algorithm": {"aggregator": {"kind": kind, "weighting": "samples"}}}

    assert without_newer(dumped("mean")) == {"algorithm": {"aggregator": {"kind": "mean"}}}
    assert without_newer(dumped("theirs:Mean")) == dumped("theirs:Mean")
