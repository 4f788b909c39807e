"""A Chromium for every file of tests, and one report for all of them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opened_pages import ARGUMENTS, NAMES
from playwright.sync_api import Browser, sync_playwright

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.report import write_report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(NAMES)})")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def cells(sweep: Callable[..., list[RunRecord]], partition: dict[str, Any], attack: dict[str, Any]) -> list[RunRecord]:
    return sweep(
        ("fedavg", "autoflip", "autoflip_plus"),
        (partition["iid"], partition["two_classes"]),
        [attack["clean"](), attack["noise"](0.1), attack["noise"](0.5)],
        3,
        rounds=12,
    )


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory, cells: list[RunRecord]) -> Path:
    missing = [{"cell": "0" * 16, "algorithm": "autoflip", "seed": 7, "axes": {}, "config": None}]
    folder = tmp_path_factory.mktemp("browser")
    return write_report(cells, {"name": "browser"}, folder / "report.html", missing=missing, notes=["A note."])
