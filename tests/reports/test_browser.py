"""The report in a real Chromium: scripts run, nothing is complained about, every figure has a size."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autoflip_secure.record import RunRecord
from reports.html import write_report

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PROBE = """
<script>
addEventListener("load", () => {
  const seen = {};
  for (const figure of document.querySelectorAll("figure")) {
    const plot = figure.querySelector(".plot svg, .plot img, table");
    const box = plot.getBoundingClientRect();
    seen[figure.id] = Math.round(Math.min(box.width, box.height));
  }
  const table = document.querySelector("table.statistics");
  const column = 3, button = table.tHead.rows[0].cells[column].querySelector("button");
  button.click();
  const values = [...table.tBodies[0].rows].map((row) => Number(row.cells[column].textContent));
  seen.sorted = Number(values.every((v, i) => i === 0 || values[i - 1] <= v));
  button.click();
  seen.reversed = Number(Number(table.tBodies[0].rows[0].cells[column].textContent) === Math.max(...values));
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.requests = performance.getEntriesByType("resource").length;
  URL.createObjectURL = (blob) => { blob.text().then((t) => { document.body.dataset.csv = t; }); return "#"; };
  document.querySelector("#convergence button.csv").click();
  document.body.dataset.seen = Object.entries(seen).map(([k, v]) => `${k}=${v}`).join(";");
});
</script>
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no Chromium on the PATH (looked for {', '.join(NAMES)})")


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory,
    sweep: Callable[..., list[RunRecord]],
    partition: dict[str, Any],
    attack: dict[str, Any],
) -> Path:
    cells = sweep(
        ("fedavg", "autoflip", "autoflip_plus"),
        (partition["iid"], partition["two_classes"]),
        [attack["clean"](), attack["noise"](0.1), attack["noise"](0.5)],
        3,
        rounds=12,
    )
    return write_report(cells, {"name": "<b>browser</b>"}, tmp_path_factory.mktemp("browser") / "report.html")


def run(chromium: str, profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    options += " --no-first-run --disable-sync --hide-scrollbars --enable-logging=stderr --virtual-time-budget=3000"
    return subprocess.run(
        [chromium, *options.split(), f"--user-data-dir={profile}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.parametrize("width", [1200, 400])
def test_it_works_in_a_browser(chromium: str, report: Path, tmp_path: Path, width: int):
    probed = tmp_path / "probed.html"
    probed.write_text(report.read_text().replace("</body>", PROBE + "</body>"))
    done = run(chromium, tmp_path / "profile", "--dump-dom", f"--window-size={width},6000", probed.as_uri())
    assert 'data-ready="true"' in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
    match = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert match is not None
    seen = {k: int(v) for k, v in (pair.split("=") for pair in match[1].split(";"))}
    figures = set(re.findall(r'<figure id="([^"]+)"', report.read_text()))
    assert len(figures) >= 11
    assert all(seen[figure] > 100 for figure in figures), seen
    assert seen["sorted"] == seen["reversed"] == 1
    assert seen["overflow"] <= 0
    assert seen["requests"] == 0
    csv = re.search(r'data-csv="([^"]*)"', done.stdout)
    assert csv is not None
    assert csv[1].lstrip("\ufeff").startswith("facet,attack,algorithm,round,test accuracy (%)")


def test_the_probe_would_notice_an_error(chromium: str, report: Path, tmp_path: Path):
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text().replace('"use strict";', '"use strict"; missing();'))
    done = run(chromium, tmp_path / "profile", "--dump-dom", broken.as_uri())
    assert "CONSOLE" in done.stderr
    assert 'data-ready="true"' not in done.stdout


def test_dark_pages_are_dark_and_legible(chromium: str, report: Path, tmp_path: Path):
    pixels = {}
    for scheme, setting in (("light", 1), ("dark", 0)):
        target = tmp_path / f"{scheme}.png"
        flag = f"--blink-settings=preferredColorScheme={setting}"
        run(
            chromium,
            tmp_path / f"profile-{scheme}",
            f"--screenshot={target}",
            "--window-size=1200,4000",
            flag,
            report.as_uri(),
        )
        pixels[scheme] = np.asarray(Image.open(target).convert("L"), dtype=float)
    assert np.median(pixels["light"]) > 240
    assert np.median(pixels["dark"]) < 40
    below = slice(1500, 4000)  # figures: their ink changes with the page
    assert (pixels["dark"][below] > 120).mean() > 0.01
