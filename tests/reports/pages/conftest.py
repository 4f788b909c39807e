"""A Chromium for every file of tests, and one whole report for all of them: to draw its figures takes seconds."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from opened_pages import ARGUMENTS, HOSTILE, NAMES
from playwright.sync_api import Browser, sync_playwright
from sizes import sized

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.sections import Section, sections
from autoflip_secure.reports.figures.style import Picture
from autoflip_secure.reports.pages.report import render, write_report


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
def made(small: list[RunRecord], scenario: dict[str, Any]) -> tuple[str, list[Picture]]:
    """A whole report, and the pictures that were drawn for it."""
    before, drawn = dict(mpl.rcParams), list[Picture]()

    def noted(*arguments: Any) -> list[Section]:
        found = sections(*arguments)
        drawn.extend(picture for section in found for picture in section.pictures)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoflip_secure.reports.pages.report.sections", noted)
        text = render(small, scenario, command="autoflip-secure sweep synthetic.yaml")
    assert dict(mpl.rcParams) == before  # no global state is touched
    assert plt.get_fignums() == []
    return text, drawn


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory, made: tuple[str, list[Picture]]) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(made[0], encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def hostile(
    tmp_path_factory: pytest.TempPathFactory,
    record: Callable[..., RunRecord],
    partition: dict[str, Any],
    attack: dict[str, Any],
) -> Path:
    """Every name, note, version, axis and setting is hostile: all at once, and in full also each alone."""
    texts = ["\n".join(HOSTILE), *HOSTILE][: sized(1, 5)]
    runs = [
        record(
            name,
            place,
            malicious,
            seed,
            rounds=3,
            label="fedavg" if name == "fedavg" else text,
            axes={text: text},
            extra=text,
        ).model_copy(update={"events": [text], "versions": {text: text}})
        for text in texts
        for name in ("fedavg", "autoflip")
        for place in ({"kind": "by_group", "note": HOSTILE[0]},)
        for malicious in (attack["clean"](), attack["noise"](0.5) | {"note": text})
        for seed in range(2)
    ]
    text = " ".join(HOSTILE)
    missing = [{"cell": text, "algorithm": text, "seed": None, "axes": {text: text}, "config": None}]
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    return write_report(runs, {"name": text, "question": text}, path, missing=missing, notes=[text], command=text)
