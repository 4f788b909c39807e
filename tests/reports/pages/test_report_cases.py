"""What the report makes of other records: hostile strings, what is missing, and single axes."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbers_as_text import is_number
from read_page import Make, Page

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.reports.figures.sensitivity import sensitivity
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.pages.report import render, write_report
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.text import Table, as_csv

HOSTILE = (
    "<script>alert(1)</script> \"quoted\" 'name' & $x_{2}$ </style> -->",
    "</svg><img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %}",
    "שלום \u202e evil\x00\x1b[31m 名前 🦆 " + "very-long-" * 40,
)


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


@pytest.mark.slow
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
        "picture",
        "claims-table",
        "accuracy-by-condition",
        "cost-bytes",
        "cost-operations",
        "statistics-table",
        "beyond-accuracy",
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
