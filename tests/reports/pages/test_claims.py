"""The page of claims and its JSON: every claim with its verdict, every place with its numbers, nothing made up."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from opened_pages import opened
from planted import at
from planted_claims import accuracies
from playwright.sync_api import Browser

from autoflip_secure.errors import StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims.portfolio import ASKED, AnsweredClaim, Stage, answered, scenarios
from autoflip_secure.reports.pages.claims import as_data, render_claims, write_claims
from autoflip_secure.reports.study.study import study

HOW = {"quick": True, "command": "autoflip-secure claims --quick", "cells": 15}


@pytest.fixture(scope="module")
def tested(
    record: Callable[..., RunRecord], partition: dict[str, object], attack: dict[str, Callable[[], object]]
) -> list[AnsweredClaim]:
    def cell(name: str, seed: int, **change: object) -> RunRecord:
        made = record(name, partition["two_classes"], attack["clean"](), seed, rounds=8)
        return at(made, float(str(change["accuracy"])))

    records = accuracies(cell, fedavg=0.80, guidance_only=0.78, random_weights=0.70)
    absent = {name: f"The scenario {name} was <not> run." for name in scenarios() if name != "falsifier"}
    stage = Stage(study(records), "autoflip-secure sweep falsifier --set 'a=[b]'", "digits; <mlp>")
    return answered({"falsifier": stage}, absent)


def test_every_claim_is_on_the_page_and_in_the_data(tested: list[AnsweredClaim]) -> None:
    text = render_claims(tested, **HOW)
    data = as_data(tested, **HOW)
    assert [one["key"] for one in data["claims"]] == [asked.key for asked in ASKED]
    for one in data["claims"]:
        assert f'id="claim-{one["key"]}"' in text
        assert bool(one["places"]) != (one["verdict"] == "not tested here")
        assert bool(one["why_not_tested"]) == (one["verdict"] == "not tested here")
        if one["places"]:
            assert one["tested_by"].startswith("autoflip-secure sweep")
            assert one["deciding"] in one["places"]
    by_key = {one["key"]: one for one in data["claims"]}
    (place,) = by_key["falsifier"]["places"]
    assert by_key["falsifier"]["verdict"] == place["verdict"] == "refuted"
    assert place["effect"] == pytest.approx(-2.0)
    low, high = place["simultaneous_interval"]
    assert low < -2 < high < place["refuted_below"] == 0
    assert (place["supported_from"], place["seeds"]) == (-0.5, 5)
    assert "<not>" not in text
    assert "&lt;mlp&gt;" in text
    json.dumps(data, allow_nan=False)


def test_what_does_not_survive_among_all_claims_is_hollow_and_says_so(tested: list[AnsweredClaim]) -> None:
    sure = [one for one in tested if one.claim.p < 1]
    assert sure
    assert "judged alone;" not in render_claims(tested, **HOW)
    doubted = [replace(one, claim=replace(one.claim, corrected=0.2)) if one is sure[0] else one for one in tested]
    text, data = render_claims(doubted, **HOW), as_data(doubted, **HOW)
    assert 'hollow">' in text
    assert text.count("judged alone; p ") == 1
    assert "One answer does not survive correction" in text
    by_key = {one["key"]: one for one in data["claims"]}
    assert [key for key, one in by_key.items() if one["stands_among_all"] is False] == [sure[0].asked.key]
    assert by_key[sure[0].asked.key]["p_among_all"] == 0.2


def test_it_is_written_whole_and_a_folder_in_the_way_is_said(tested: list[AnsweredClaim], tmp_path: Path) -> None:
    page = tmp_path / "deep" / "claims.html"
    write_claims(tested, page, **HOW)
    assert json.loads(page.with_suffix(".json").read_text())["format"] == 1
    assert page.read_text().startswith("<!DOCTYPE html>")
    (tmp_path / "claims.html").mkdir()
    with pytest.raises(StoreError, match=r"claims\.html"):
        write_claims(tested, tmp_path / "claims.html", **HOW)


def test_with_nothing_tested_there_is_no_picture_and_a_page_all_the_same() -> None:
    nothing = answered({}, dict.fromkeys(scenarios(), "It was not run."))
    text = render_claims(nothing, **HOW)
    assert "effects-of-claims" not in text
    assert text.count("not tested here") >= len(ASKED)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_it_opens_without_complaint_and_fits(
    browser: Browser, tested: list[AnsweredClaim], tmp_path: Path, width: int
) -> None:
    page_file = write_claims(tested, tmp_path / "claims.html", **HOW)
    with opened(browser, page_file, viewport={"width": width, "height": 800}) as (page, seen):
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("#claims-table tbody tr").count() == len(ASKED)
        page.fill("input[name=words]", "random weights")
        page.wait_for_selector("body.filtered")
        shown = page.locator("#claims-table tbody tr:visible").count()
    assert (seen.errors, seen.requests) == ([], [])
    assert 0 < shown < len(ASKED)
