"""The privacy part of a report, from scenario files to pages in a browser."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cli_audits import command
from playwright.sync_api import sync_playwright

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.report import render
from autoflip_secure.reports.wording.budget import rows
from autoflip_secure.scenarios.store.budget import budgets


@pytest.fixture(scope="module")
def folder(audit_scenarios: Path) -> Path:
    return audit_scenarios


@pytest.fixture(scope="module")
def done(first_audit: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    return first_audit


@pytest.fixture(scope="module")
def swept(private_sweep: tuple[Path, list[RunRecord]]) -> tuple[Path, list[RunRecord]]:
    return private_sweep


def test_report_has_a_privacy_part(swept: tuple[Path, list[RunRecord]]) -> None:
    page = (swept[0] / "report.html").read_text()
    (spent,) = budgets([swept[0]])
    assert 'id="budget"' in page
    assert all(row["everything together"] in page for row in rows(spent))
    for slug in ("privacy-utility", "privacy-ledger", "privacy-rounds", "ledger"):
        assert f'id="{slug}"' in page, slug
    assert "What privacy costs (mean accuracy" in page
    assert "single samples, target ε 3" in page
    assert "whole clients, each adds noise, σ 3" in page
    assert "What privacy costs" in (swept[0] / "report.md").read_text()


def begun(swept: tuple[Path, list[RunRecord]], place: Path) -> Path:
    """A copy of the sweep with one cell only, whose report is made in a moment."""
    folder = Path(shutil.copytree(swept[0], place / "swept"))
    for path in sorted((folder / "cells").glob("*.json"))[1:]:
        path.unlink()
    return folder


def test_a_damaged_audit_is_named(swept: tuple[Path, list[RunRecord]], tmp_path: Path) -> None:
    folder = begun(swept, tmp_path)
    (folder / "audits").mkdir()
    (folder / "audits" / "0123.json").write_text("{")
    told = command("report", "swept", folder=tmp_path)
    assert told.returncode == 0
    assert "note: Left out: audits/0123.json is damaged" in told.stderr
    assert "audits/0123.json is damaged" in (folder / "report.html").read_text()


def test_a_report_that_cannot_be_written_keeps_the_cells(swept: tuple[Path, list[RunRecord]], tmp_path: Path) -> None:
    folder = begun(swept, tmp_path)
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    told = command("report", "swept", folder=tmp_path)
    assert told.returncode == 2
    assert "All cells are kept: `autoflip-secure report swept`" in told.stderr
    assert "Traceback" not in told.stderr


def test_report_without_privacy_has_none(swept: tuple[Path, list[RunRecord]]) -> None:
    bare = [record for record in swept[1] if record.privacy is None and record.algorithm == "fedavg"]
    page = render(bare, {"name": "bare"})
    assert 'id="privacy-utility"' not in page
    assert 'id="ledger"' not in page


def test_report_says_what_privacy_does_to_pruning(swept: tuple[Path, list[RunRecord]]) -> None:
    """By hand: 100 weights of which 25 live without privacy, 90 and 95 with it."""

    def keeping(record: RunRecord) -> RunRecord:
        kind = (record.config.get("privacy") or {}).get("kind")
        live = {"sample_level": 90, "client_level": 95}.get(str(kind), 25)
        layer = record.layers[0].model_copy(update={"weights": 100, "live_weights": live})
        return record.model_copy(update={"layers": [layer]})

    page = render([keeping(record) for record in swept[1]], {"name": "kept"}, figures=False).replace("\xa0", " ")
    assert "single samples, no attack: 25 % of the weights are alive at the end without privacy, 90 % with it." in page
    assert "adds noise, no attack: 25 % of the weights are alive at the end without privacy, 95 % with it." in page
    unpruned = [r.model_copy(update={"layers": []}) for r in swept[1]]
    assert "What privacy does to pruning" not in render(unpruned, {"name": "kept"}, figures=False)


def test_no_epsilon_is_printed_where_none_is_proven(swept: tuple[Path, list[RunRecord]]) -> None:
    """Guarantees taken away: no number may stay anywhere."""
    voided = []
    for record in swept[1]:
        if record.privacy is None or record.algorithm != "fedavg":
            continue
        nothing = [
            g.model_copy(update={"proven": False, "reason": "planted <reason>", "clients": [], "over_rounds": []})
            for g in record.privacy.guarantees
        ]
        voided.append(record.model_copy(update={"privacy": record.privacy.model_copy(update={"guarantees": nothing})}))
    page = render(voided, {"name": "void"})
    assert "no guarantee: planted &lt;reason&gt;" in page
    assert not re.search(r"ε ≤ [\d.]+ at δ", page)
    assert 'id="privacy-rounds"' not in page
    assert "none\nproven" not in page or "at ε" not in page


@pytest.mark.slow
def test_pages_in_a_browser(done: subprocess.CompletedProcess[str], swept: Any, folder: Path) -> None:
    chromium = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for path, figures in ((folder / "runs/tiny/audit.html", 3), (swept[0] / "report.html", 8)):
            for width in (390, 1280):
                errors: list[str] = []
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.on("console", lambda m, to=errors: to.append(m.text) if m.type in ("error", "warning") else None)
                page.on("pageerror", lambda e, to=errors: to.append(str(e)))
                page.goto(path.as_uri())
                assert page.locator("figure svg, figure img").count() >= figures
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
                assert not errors
                page.close()
        browser.close()
