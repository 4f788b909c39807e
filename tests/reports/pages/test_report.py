"""The file: self-contained, small, complete, and its tables hold the data of its figures."""

import csv
import hashlib
import io
import re

import pytest
from read_page import Page

from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.style import Picture
from autoflip_secure.reports.pages.page import ROWS_SHOWN
from autoflip_secure.reports.statistics.intervals import Interval, bootstrap_interval
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.study.threat_cards import Cards
from autoflip_secure.reports.tables.statistics import statistics_table
from autoflip_secure.reports.tables.text import value
from autoflip_secure.reports.tables.threat_cards import beside


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
        "picture",
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
        "cost-to-target",
        "statistics-table",
        "degradation-numbers",
        "beyond-accuracy",
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
    assert len(pictures) == 15  # one of them twice: in the summary too
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


def test_tables_and_files_hold_the_data_of_the_figures(
    page: tuple[str, Page], drawn: list[Picture], small: list[RunRecord]
):
    _, parsed = page
    cards = Cards(study(small))
    assert beside(cards, drawn[0].table).rows[-1][-1] == "own; update, exploration; untargeted; stateless"
    for picture in drawn:
        shown = beside(cards, picture.table)
        table, rows = parsed.tables[picture.slug], shown.rows
        assert table[0] == shown.columns
        assert table[1:] == [[value(item) for item in row] for row in rows[:ROWS_SHOWN]]
        lines = list(csv.reader(io.StringIO(parsed.csvs[picture.slug])))
        assert lines[0] == shown.columns
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


def minus(text: str) -> float:
    return float(text.replace("−", "-"))


def ends(interval: Interval, sign: str = "") -> str:
    if interval.low is None or interval.high is None:
        return "–"
    low, high = (f"{round(100 * end, 2) + 0.0:{sign}.2f}".replace("-", "−") for end in (interval.low, interval.high))
    return f"[{low}, {high}]"


def test_the_statistics_table_is_the_comparison(page: tuple[str, Page], small: list[RunRecord]):
    table, cards = page[1].tables["statistics-table"], Cards(study(small))
    rows = compare(study(small))
    assert len(table) == len(rows) + 1
    for cells, row in zip(table[1:], rows, strict=True):
        badge = cards.badge(row.condition.attack)
        assert [cell.replace("\u00a0", " ") for cell in cells[:3]] == [
            row.condition.facet,
            f"{row.condition.attack} {badge}".rstrip(),
            row.algorithm,
        ]
        accuracy, t, bootstrap = re.split(" t | BCa ", cells[3])
        assert float(accuracy) == pytest.approx(100 * row.accuracy.mean, abs=0.006)
        assert [t, bootstrap] == [ends(row.accuracy), ends(row.bootstrap)]
        assert cells[-1].replace("\u00ad", "") == row.standing != ""  # it may be hyphenated
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
    assert statistics_table(rows, None).columns[-5:] == [
        "seeds", "rank from", "rank to", "ranked", "no interval because",
    ]  # fmt: skip


def test_degradation_data_are_the_means_of_the_records(drawn: list[Picture], small: list[RunRecord]):
    picture = drawn[0]
    assert picture.table.columns[4] == "sigma"
    for facet, _, _, algorithm, sigma, mean, *_ in picture.table.rows:
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


def test_every_cell_is_named_by_its_hash(page: tuple[str, Page], small: list[RunRecord]):
    words = page[1].text
    assert {row["cell"] for row in csv.DictReader(io.StringIO(page[1].csvs["cells"]))} == {run.cell for run in small}
    hashed = hashlib.sha256(" ".join(sorted(run.cell for run in small)).encode()).hexdigest()[:16]
    assert f"Hash{hashed} over the hashes of its {len(small)} cells" in words
