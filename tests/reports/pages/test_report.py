"""The file: self-contained, small, complete, and text stays text whatever it says."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbers_as_text import is_number

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.sensitivity import sensitivity
from autoflip_secure.reports.figures.style import Palette, Picture, drawing
from autoflip_secure.reports.pages.page import ROWS_SHOWN
from autoflip_secure.reports.pages.report import render, write_report
from autoflip_secure.reports.statistics.intervals import Interval, bootstrap_interval
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.statistics import statistics_table
from autoflip_secure.reports.tables.text import Table, as_csv, value

Make = Callable[..., RunRecord]
Sweep = Callable[..., list[RunRecord]]
VOID = {"meta", "br", "img", "link", "input", "hr", "use", "path", "image"}
HOSTILE = (
    "<script>alert(1)</script> \"quoted\" 'name' & $x_{2}$ </style> -->",
    "</svg><img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %}",
    "שלום \u202e evil\x00\x1b[31m 名前 🦆 " + "very-long-" * 40,
)


class Page(HTMLParser):
    """Elements with attributes, the last table of every figure as text, embedded data, and a check that tags close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.tables: dict[str | None, list[list[str]]] = {}  # id of the figure -> rows
        self.csvs: dict[str, str] = {}
        self.words: list[str] = []
        self.cell = False
        self.figure: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "figure":
            self.figure = dict(attrs)["id"]
        if tag == "table":
            self.tables[self.figure] = []
        if tag == "tr":
            self.tables[self.figure].append([])
        if tag in ("td", "th"):
            self.tables[self.figure][-1].append("")
            self.cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag
        if tag == "figure":
            self.figure = None
        if tag in ("td", "th"):
            self.cell = False

    def handle_data(self, data: str) -> None:
        last, attributes = self.elements[-1] if self.elements else ("", {})
        if last == "script" and attributes.get("type") == "application/json" and self.stack[-1] == "script":
            self.csvs[str(attributes["id"]).removeprefix("csv-")] = json.loads(data)
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.words.append(data)
        if self.cell:
            self.tables[self.figure][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def page(made: tuple[str, list[Picture]]) -> tuple[str, Page]:
    return made[0], Page(made[0])


@pytest.fixture(scope="module")
def drawn(made: tuple[str, list[Picture]]) -> list[Picture]:
    return made[1]


def test_every_section_is_there(page: tuple[str, Page]):
    _, parsed = page
    figures = [f["id"] for f in parsed.all("figure")]
    assert figures == [
        "claims-table",
        "degradation-gaussian-noise-sigma",
        "accuracy-by-condition",
        "paired-differences",
        "convergence",
        "update-variance",
        "agreement-scores",
        "detection",
        "guidance",
        "importance",
        "layers",
        "architecture",
        "cost-bytes",
        "cost-operations",
        "statistics-table",
        "degradation-numbers",
        "cells",
    ]
    assert parsed.stack == []
    targets = {a.get("id") for _, a in parsed.elements}
    links = [str(a["href"]) for a in parsed.all("a")]
    assert all(link.removeprefix("#") in targets for link in links)


def test_ids_are_unique_and_figures_have_texts(page: tuple[str, Page]):
    _, parsed = page
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    pictures = parsed.all("svg") + parsed.all("img")
    assert len(pictures) == 13
    assert all(len(str(a.get("aria-label") or a.get("alt"))) > 40 for a in pictures)


def test_nothing_is_loaded_from_anywhere(page: tuple[str, Page]):
    text, parsed = page
    for tag, attributes in parsed.elements:
        for name, content in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "poster", "srcset") and content:
                assert content.startswith(("#", "data:image/")), (tag, name, content[:80])
    rest = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http://" not in rest
    assert "https://" not in rest
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_it_is_small_enough(page: tuple[str, Page]):
    assert len(page[0].encode()) < 3_000_000


def test_tables_and_files_hold_the_data_of_the_figures(page: tuple[str, Page], drawn: list[Picture]):
    _, parsed = page
    for picture in drawn:
        table, rows = parsed.tables[picture.slug], picture.table.rows
        assert table[0] == picture.table.columns
        assert table[1:] == [[value(item) for item in row] for row in rows[:ROWS_SHOWN]]
        lines = list(csv.reader(io.StringIO(parsed.csvs[picture.slug])))
        assert lines[0] == picture.table.columns
        assert len(lines) == len(rows) + 1
        for line, row in zip(lines[1:], rows, strict=True):
            for text, item in zip(line, row, strict=True):
                assert (float(text) if isinstance(item, float) else text) == (
                    item if isinstance(item, float) else "" if item is None else str(item)
                )


def test_long_tables_are_cut_on_the_page_and_whole_in_the_file(page: tuple[str, Page], drawn: list[Picture]):
    long = [p for p in drawn if len(p.table.rows) > ROWS_SHOWN]
    assert long
    for picture in long:
        assert len(page[1].tables[picture.slug]) == ROWS_SHOWN + 1
        assert f"the first {ROWS_SHOWN} of {len(picture.table.rows)} rows" in page[1].text


@given(
    st.lists(
        st.tuples(st.text(alphabet=st.characters(codec="utf-8")), st.floats(allow_nan=False), st.booleans(), st.none())
    )
)
def test_a_csv_reads_back_as_it_was(rows: list[tuple[str, float, bool, None]]):
    text = as_csv(Table(["text, quoted", "number", "flag", "gap"], [list(row) for row in rows]))
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    assert header == ["text, quoted", "number", "flag", "gap"]
    found = [(a, float(b), c == "yes", d or None) for a, b, c, d in lines]
    assert [(a.removeprefix("'"), *rest) for a, *rest in found] == [(a.removeprefix("'"), *rest) for a, *rest in rows]
    assert not any(re.match(r"\s*[=+@-]", a) for a, *_ in found if not is_number(a))  # no text begins a formula


def minus(text: str) -> float:
    return float(text.replace("−", "-"))


def ends(interval: Interval, sign: str = "") -> str:
    if interval.low is None or interval.high is None:
        return "–"
    low, high = (f"{round(100 * end, 2) + 0.0:{sign}.2f}".replace("-", "−") for end in (interval.low, interval.high))
    return f"[{low}, {high}]"


def test_the_statistics_table_is_the_comparison(page: tuple[str, Page], small: list[RunRecord]):
    table = page[1].tables["statistics-table"]
    rows = compare(study(small))
    assert len(table) == len(rows) + 1
    for cells, row in zip(table[1:], rows, strict=True):
        assert [cell.replace("\u00a0", " ") for cell in cells[:3]] == [
            row.condition.facet,
            row.condition.attack,
            row.algorithm,
        ]
        accuracy, t, bootstrap = re.split(" t | BCa ", cells[3])
        assert float(accuracy) == pytest.approx(100 * row.accuracy.mean, abs=0.006)
        assert [t, bootstrap] == [ends(row.accuracy), ends(row.bootstrap)]
        if row.against:
            difference, *both = re.split(" t | BCa ", cells[5])
            assert minus(difference) == pytest.approx(100 * row.against.difference.mean, abs=0.006)
            assert both == [ends(x, "+") for x in (row.against.difference, row.against.bootstrap)]
            word, _, needed = cells[9].partition("≈")
            assert row.against.verdict.value.startswith(word.strip())
            assert needed.strip() == (f"{row.against.seeds_needed} seeds" if row.against.seeds_needed else "")
    exact = list(csv.DictReader(io.StringIO(page[1].csvs["statistics"])))
    for line, row in zip(exact, rows, strict=True):
        assert float(line["accuracy (%)"]) == 100 * row.accuracy.mean
        if row.against:
            assert float(line["difference (points)"]) == 100 * row.against.difference.mean
            assert float(line["difference BCa low"]) == 100 * row.against.bootstrap.low
            assert line["verdict"] == row.against.verdict.value
        assert float(line["BCa low (%)"]) == 100 * bootstrap_interval(row.accuracies, share=True).low
        assert len(row.accuracies) == int(line["seeds"])
        assert line["no interval because"] == ""
    assert statistics_table(rows, None).columns[-2:] == ["seeds", "no interval because"]


@pytest.mark.parametrize(("seeds", "why"), [(1, "one seed gives no interval"), (2, "at least three seeds, here 2")])
def test_a_missing_interval_is_a_dash_and_a_reason(
    seeds: int, why: str, record: Make, partition: dict[str, Any], attack: dict[str, Any]
):
    cells = [
        record(name, partition["iid"], attack["clean"](), s, rounds=1)
        for name in ("fedavg", "autoflip")
        for s in range(seeds)
    ]
    parsed = Page(render(cells, {"name": "few"}, figures=False))
    for line in parsed.tables["statistics-table"][1:]:
        assert [end == "–" for end in re.split(" t | BCa ", line[3])[1:]] == [seeds < 2, True]
    text = " ".join(" ".join(parsed.words).split())
    assert "A dash means that there is no interval" in text
    assert why in text
    for line in csv.DictReader(io.StringIO(parsed.csvs["statistics"])):
        assert why in line["no interval because"]
        assert (line["BCa low (%)"], line["low (%)"] == "") == ("", seeds < 2)


def test_degradation_data_are_the_means_of_the_records(drawn: list[Picture], small: list[RunRecord]):
    picture = drawn[0]
    assert picture.table.columns[3] == "sigma"
    for facet, _, algorithm, sigma, mean, *_ in picture.table.rows:
        own = [
            DEFAULT.accuracy(r)
            for r in small
            if r.algorithm
            == {"FedAvg": "fedavg", "AutoFLIP": "autoflip", "AutoFLIP plus": "autoflip_plus"}.get(
                algorithm, "agreement_only"
            )
            and (r.config["partition"]["kind"] == "iid") == (facet == "IID")
            and (r.config["attack"].get("sigma", 0 if r.config["attack"]["kind"] == "none" else None) == sigma)
        ]
        assert len(own) == 3
        assert mean == pytest.approx(100 * sum(own) / 3)


@pytest.mark.parametrize("text", ["\n".join(HOSTILE), *(pytest.param(t, marks=pytest.mark.slow) for t in HOSTILE)])
def test_hostile_strings_stay_text(text: str, record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    odd = {"kind": text, "scope": 0.2, "strength": 1, "clients": None}
    cells = [
        record(name, place, malicious, seed, rounds=3, label=name if name == "fedavg" else text).model_copy(
            update={"events": [text], "versions": {text: text}}
        )
        for name in ("fedavg", "autoflip")
        for place in (partition["iid"], {"kind": "by_group", "note": text})
        for malicious in (
            attack["clean"](),
            attack["noise"](0.5) | {"note": text},
            odd | {"kind": "gaussian_noise", "sigma": 1, "x": text},
        )
        for seed in range(2)
    ]
    missing = [{"cell": text, "algorithm": text, "seed": None, "axes": {text: text}, "config": None}]
    page_text = render(cells, {"name": text, "question": text}, command=text, missing=missing, notes=[text])
    parsed = Page(page_text)
    assert len([a for a in parsed.all("script") if a.get("type") != "application/json"]) == 1
    assert len(parsed.all("style")) == 1
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert not [a for a in parsed.all("img") if not str(a.get("src")).startswith("data:")]
    assert "\x00" not in page_text
    first = text.split(maxsplit=1)[0].replace("\x00", "")[:20]
    assert first in "".join(parsed.words)


def test_sections_without_data_are_left_out(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [record("fedavg", partition["iid"], attack["clean"](), seed, rounds=1) for seed in range(2)]
    parsed = Page(render(cells, {"name": "alone"}))
    figures = [f["id"] for f in parsed.all("figure")]
    assert figures == [
        "claims-table",
        "accuracy-by-condition",
        "cost-bytes",
        "cost-operations",
        "statistics-table",
        "cells",
    ]
    assert "defence" not in {a.get("id") for _, a in parsed.elements}


def test_a_threshold_sweep_gets_a_sensitivity_curve(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    clean = attack["clean"]()
    cells = [record("fedavg", partition["iid"], clean, s, rounds=2) for s in range(3)]
    cells += [
        record("autoflip", partition["iid"], clean, s, rounds=2, threshold=t) for s in range(3) for t in (0.1, 0.3, 0.5)
    ]
    found = study(cells)
    with drawing():
        (picture,) = sensitivity(found, Palette(found))
    assert picture.slug == "sensitivity-algorithm-pruner-threshold"
    levels = [row[2] for row in picture.table.rows if row[1] == "AutoFLIP"]
    assert levels == [0.1, 0.3, 0.5]
    assert [row[1] for row in picture.table.rows if row[2] == "any"] == ["FedAvg"]


def test_an_alpha_sweep_gets_a_sensitivity_curve(record: Make, attack: dict[str, Any]):
    cells = [
        record(name, {"kind": "dirichlet", "alpha": a}, attack["noise"](0.5), s, rounds=2)
        for name in ("fedavg", "autoflip")
        for a in (0.1, 0.3, 1.0)
        for s in range(2)
    ]
    found = study(cells)
    with drawing():
        (picture,) = sensitivity(found, Palette(found))
    assert picture.slug == "sensitivity-partition-alpha"
    assert {row[2] for row in picture.table.rows} == {0.1, 0.3, 1.0}


def test_an_unfinished_sweep_says_so_and_names_what_is_missing(
    record: Make, partition: dict[str, Any], attack: dict[str, Any]
):
    cells = [record("fedavg", partition["iid"], attack["clean"](), 0, rounds=1)]
    known = record("autoflip", partition["two_classes"], attack["noise"](0.5), 0, rounds=1).config
    missing = [
        {"cell": "a", "algorithm": "autoflip", "seed": seed, "axes": {"algorithm": "autoflip"}, "config": known}
        for seed in (3, 4)
    ]
    missing += [{"cell": "b", "algorithm": "fedavg", "seed": 5, "axes": {"attack.sigma": 0.5}, "config": None}]
    words = Page(render(cells, {"name": "half"}, missing=missing, notes=["One file is damaged."], figures=False)).text
    assert "This sweep is not finished. 3 of 4 cells are missing." in words
    assert "AutoFLIP, 2 classes per client, noise σ 0.5 on 20 %: seeds 3, 4" in words
    assert "FedAvg, σ 0.5: seed 5" in words
    assert "One file is damaged." in words
    assert "One seed gives no interval" in words
    assert "This sweep is not finished" not in Page(render(cells, {"name": "done"}, figures=False)).text


def test_different_versions_are_told(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [record("fedavg", partition["iid"], attack["clean"](), seed, rounds=1) for seed in range(3)]
    cells[0] = cells[0].model_copy(update={"versions": {"torch": "1.0"}})
    assert (
        "torch 1.0 (1 of 3 cells), 2.13.0 (2 of 3 cells)" in Page(render(cells, {"name": "mixed"}, figures=False)).text
    )


def test_written_whole_or_not_at_all(tmp_path: Path, record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [record("fedavg", partition["iid"], attack["clean"](), s, rounds=2) for s in range(2)]
    path = write_report(cells, {"name": "x"}, tmp_path / "run" / "report.html")
    assert path == tmp_path / "run" / "report.html"
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "cells.csv",
        "cells.parquet",
        "report.html",
        "report.md",
        "results.csv",
        "results.parquet",
    ]
    assert len((path.parent / "results.csv").read_text().splitlines()) == 5
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(cells, {"name": "x"}, tmp_path / "file" / "report.html")
    with pytest.raises(InputError, match="no finished cell"):
        write_report([], {"name": "x"}, tmp_path / "none.html")


@pytest.mark.parametrize("algorithm", ["fedavg", pytest.param("autoflip", marks=pytest.mark.slow)])
def test_the_same_records_give_the_same_file(
    algorithm: str, record: Make, partition: dict[str, Any], attack: dict[str, Any]
):
    cells = [record(algorithm, partition["iid"], attack["noise"](0.5), s, rounds=3) for s in range(2)]
    assert render(cells, {"name": "x"}) == render(cells, {"name": "x"})


def test_every_cell_is_named_by_its_hash(page: tuple[str, Page], small: list[RunRecord]):
    words = page[1].text
    assert {row["cell"] for row in csv.DictReader(io.StringIO(page[1].csvs["cells"]))} == {run.cell for run in small}
    hashed = hashlib.sha256(" ".join(sorted(run.cell for run in small)).encode()).hexdigest()[:16]
    assert f"Hash{hashed} over the hashes of its {len(small)} cells" in words
