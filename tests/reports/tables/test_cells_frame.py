"""One row a cell, the documentation of its columns, and the table under a notebook's cell."""

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autoflip_secure.records.backdoor import BackdoorRecord
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.personal import ClientAccuracies, PersonalAccuracy
from autoflip_secure.records.run import DataRecord, RunRecord
from autoflip_secure.records.stability import Stability
from autoflip_secure.reports.pages.notebook import ROWS, summary
from autoflip_secure.reports.pages.report import write_report
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.cells import cells_table
from autoflip_secure.reports.tables.cells_frame import cells_frame
from autoflip_secure.reports.tables.frame_files import parquet
from autoflip_secure.reports.tables.frames import tidy

DOCS = Path(__file__).parents[3] / "docs" / "results.md"


def personal(run: RunRecord) -> RunRecord:
    """The same, as if clients had been tested on rows of their own."""
    last = ClientAccuracies(clients=[0], held_out=[4], accuracy=[0.5])
    own = PersonalAccuracy(mean=0.5, worst=0.5, spread=0.0, global_accuracy=0.5)
    return run.model_copy(
        update={"personal": last, "rounds": [e.model_copy(update={"personal": own}) for e in run.rounds]}
    )


def documented(heading: str) -> dict[str, str]:
    """Column -> type, of the table below a heading."""
    part = DOCS.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| `")]
    assert all(len(row) in (3, 4) for row in rows)  # an empty unit leaves three
    return {row[0].strip("`"): row[1].strip("` |") for row in rows}


def pattern(name: str) -> str:
    return re.sub("PATH", ".+", re.sub("OBSERVER", "(server|public|another_client)", re.escape(name)))


@pytest.mark.parametrize(("heading", "table"), [("Cells", cells_frame), ("Rounds", tidy)])
def test_the_documentation_has_the_columns_of_the_frames(
    heading: str,
    table: Callable[[list[RunRecord]], pd.DataFrame],
    small: list[RunRecord],
    record: Callable[..., RunRecord],
    partition: dict[str, Any],
):
    """In both directions: every column is described with its type, and what is described exists."""
    said = documented("Which cell it is") | documented(heading)
    run = record("fedavg", partition["iid"], {"kind": "none"}, 0, axes={"attack.sigma": 0.5})
    unknown = run.costs.flops.model_copy(update={"dense": None})
    odd = run.model_copy(
        update={"costs": run.costs.model_copy(update={"flops": unknown, "compaction": "an operation is unknown"})}
    )
    alike = Stability(
        rank_correlation=0.9, cosine=0.8, top_overlap=0.7, between_clients=0.5, successive=None, mask_overlap=1.0
    )
    measured = [entry.model_copy(update={"stability": alike}) for entry in run.rounds]
    planted = run.model_copy(update={"backdoor": BackdoorRecord(target=0, samples=9), "rounds": measured})
    text = run.model_copy(update={"data": DataRecord(classes=80, largest_class=0.1)})
    found = [table(small), table([odd]), table([personal(run)]), table([planted]), table([text])]
    for frame in found:
        for name, kind in frame.dtypes.items():
            described = [one for one in said if re.fullmatch(pattern(one), str(name))]
            assert len(described) == 1, f"{name}: described {len(described)} times"
            assert said[described[0]] in ("as swept", str(kind)), name
    private = re.compile("privacy|guarantee|epsilon|delta|neighbours")
    for name in said:
        if not private.match(name):
            assert any(re.fullmatch(pattern(name), str(column)) for frame in found for column in frame.columns), name


def test_one_row_a_cell_with_the_records_numbers(small: list[RunRecord]):
    frame = cells_frame(small)
    assert frame["cell"].tolist() == [run.cell for run in small]
    for row, run in zip(frame.to_dict("records"), small, strict=True):
        assert row["outcome_accuracy"] == DEFAULT.accuracy(run)
        assert row["outcome_loss"] == DEFAULT.loss(run)
        assert (row["rounds"], row["density"]) == (len(run.rounds), run.rounds[-1].density)
        assert row["bytes.uplink_values"] == run.costs.bytes.uplink_values
        assert row["flops.sparse"] == run.costs.flops.sparse
        assert row["parameters"] == run.parameters
    last = cells_frame(small, OutcomeRule(1))
    assert last["outcome_accuracy"].tolist() == [run.final_accuracy for run in small]


def test_cells_and_rounds_tell_one_story(small: list[RunRecord]):
    """What both tables say of a cell is the same."""
    cells, rounds = cells_frame(small), tidy(small)
    once = rounds.drop_duplicates("cell").reset_index(drop=True)
    shared = [name for name in cells.columns if name in rounds.columns and not name.startswith(("bytes.", "flops."))]
    shared.remove("density")  # of the last round, and of each
    pd.testing.assert_frame_equal(cells[shared], once[shared])


def test_the_people_s_table_is_the_frame_s(small: list[RunRecord]):
    table, frame = cells_table(study(small)), cells_frame(study(small).records).set_index("cell")
    for line in table.rows:
        row, own = dict(zip(table.columns, line, strict=True)), frame.loc[line[0]]
        assert row["accuracy (%)"] == 100 * own["outcome_accuracy"]
        assert row["bytes"] == own["bytes.uplink_values"] + own["bytes.downlink_values"]
        assert (
            row["bytes of exploration"]
            == own["exploration.bytes.uplink_values"] + own["exploration.bytes.downlink_values"]
        )
        found = row["detection AUC"]
        assert np.isnan(own["detection.auc"]) if found is None else found == own["detection.auc"]


def test_files_beside_the_report(small: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("autoflip_secure.reports.pages.report.render", lambda *_, **__: "")  # figures take seconds
    few = small[:4]
    write_report(few, {"name": "x"}, tmp_path / "report.html")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "cells.parquet"), cells_frame(few))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), tidy(few))
    assert pd.read_csv(tmp_path / "cells.csv")["cell"].tolist() == [run.cell for run in few]
    assert io.BytesIO(parquet(cells_frame(few))).getvalue() == (tmp_path / "cells.parquet").read_bytes()


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._text = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self._text = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        if self._text:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self._text:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._text = self._text and tag not in ("td", "th")


def read(html: str) -> _Cells:
    parser = _Cells()
    parser.feed(html)
    return parser


def test_the_notebooks_table_is_means_with_intervals(small: list[RunRecord]):
    found, page = study(small), read(summary(small, "small"))
    assert page.rows[0] == ["setting", "attack", *found.algorithms]
    assert len(page.rows) == 1 + min(ROWS, len(found.conditions))
    for condition, row in zip(found.conditions, page.rows[1:], strict=False):
        assert row[:2] == list(condition)
        for algorithm, text in zip(found.algorithms, row[2:], strict=True):
            values = list(found.values(condition, algorithm).values())
            if values:
                assert text.startswith(f"{100 * np.mean(values):.1f} ")
                assert ("[" in text) == (len(values) > 1)
            else:
                assert text == ""


def test_the_notebooks_table_escapes_what_users_write(record: Callable[..., RunRecord], partition: dict[str, Any]):
    evil = "<script>alert(1)</script>"
    run = record("fedavg", partition["iid"], {"kind": "none"}, 0)
    html = summary([run.model_copy(update={"algorithm": evil})], evil, missing=2)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "2 cells are missing" in html
    assert "http" not in html
    assert read(html).tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
