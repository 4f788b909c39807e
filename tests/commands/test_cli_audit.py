"""``autoflip-secure audit``: what it says, judges, keeps and refuses."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_audits import command

from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.reports.figures import audit as figures_audit
from autoflip_secure.reports.figures.audit import _fitted
from autoflip_secure.reports.figures.style import drawing
from autoflip_secure.reports.pages.audit import render_audit
from autoflip_secure.reports.study.audited import named
from autoflip_secure.reports.wording.audit import headline, sentences, verdict_lines
from autoflip_secure.scenarios.audits.sweep_audit import audited_cells
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan


@pytest.fixture(scope="module")
def folder(audit_scenarios: Path) -> Path:
    return audit_scenarios


@pytest.fixture(scope="module")
def done(first_audit: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    return first_audit


@pytest.fixture(scope="module")
def records(done: subprocess.CompletedProcess[str]) -> list[AuditRecord]:
    return [AuditRecord.model_validate(entry) for entry in json.loads(done.stdout)["audits"]]


@pytest.mark.slow
def test_an_audit_says_what_was_released_proven_and_achieved(
    done: subprocess.CompletedProcess[str], folder: Path, records: list[AuditRecord]
) -> None:
    assert done.returncode == 0, done.stderr
    assert [record.protection["kind"] for record in records] == ["sample_level", "client_level"]
    assert {record.seed for record in records} == {21}, "the first seed"
    for record in records:
        assert record.privacy is not None
        assert record.privacy.epsilon("server") is not None
        assert min(len(record.empirical), len(record.membership), len(record.labels)) > 0
        assert record.verdict == "holds"
    assert {bound.unit for bound in records[1].empirical} == {"sample", "client"}
    assert "1/2 autoflip" in done.stderr, "progress"
    assert done.stderr.startswith("2 settings, 2 to attack")
    assert re.search(r"1/2 .*: finished; about \d+ s left", done.stderr)
    page = (folder / "runs/tiny/audit.html").read_text()
    assert "no attacker showed more than is proven" in page
    assert "Sign-off: who may say what to whom" in page
    assert page.count("Attackers who could have shown more did not.") >= 2
    assert "What &lt;b&gt;leaks&lt;/b&gt;?" in page
    assert "<b>leaks" not in page


@pytest.mark.slow
def test_again_reads_what_is_there(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    again = command("audit", "short.yaml", "--json", folder=folder)
    assert again.returncode == 0
    assert again.stderr.count("from before") == 2
    assert "0 to attack" in again.stderr
    assert json.loads(again.stdout)["audits"] == json.loads(done.stdout)["audits"]


def judged(folder: Path, out: str, change: Callable[[list[dict[str, Any]]], None]) -> tuple[Any, str]:
    """What the command and its page say of the finished audits after ``change`` of the bounds in each."""
    shutil.copytree(folder / "runs/tiny", folder / out)
    for path in (folder / out / "audits").iterdir():
        record = json.loads(path.read_text())
        change(record["empirical"])
        path.write_text(json.dumps(record))
    found = command("audit", "short.yaml", "--out", out, folder=folder)
    return found, (folder / out / "audit.html").read_text()


@pytest.mark.slow
def test_a_violation_is_loud(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """A finished audit that found more than is proven: exit code 1, and the page opens with it."""

    def violate(bounds: list[dict[str, Any]]) -> None:
        bound = next(b for b in bounds if b["proven"] is not None)
        bound.update(lower=bound["proven"] + 1, violated=True)

    found, page = judged(folder, "broken", violate)
    assert found.returncode == 1
    assert found.stdout.startswith("Violated: an attacker showed epsilon of at least")
    assert re.search(r'<h1 id="verdict-title">Violated', page)
    assert "The audit fails." in page
    assert "the audit refutes what is claimed" in page


@pytest.mark.slow
def test_an_audit_that_could_not_have_failed_is_no_pass(folder: Path, records: list[AuditRecord]) -> None:
    """Ceilings below what is proven: exit code 2, the headline says it, and every line of the table."""

    def blind(bounds: list[dict[str, Any]]) -> None:
        for bound in bounds:
            bound["lower"], bound["ceiling"] = 0.0, 0.01

    found, page = judged(folder, "blind", blind)
    assert found.returncode == 2
    assert found.stdout.startswith("Cannot tell: no attack could have shown as much as is proven")
    assert re.search(r'<h1 id="verdict-title">Cannot tell', page)
    assert "cannot fail: the most that could be shown lies below" in page
    assert "do not call it audited" in page
    assert "Attackers who could have shown more" not in page


@pytest.mark.slow
def test_the_table_of_verdicts_rounds_to_the_safe_side(records: list[AuditRecord]) -> None:
    lines = verdict_lines(records)
    assert {line.noise for line in lines} > {"as run"}
    assert {line.verdict for line in lines} <= {"holds", "not attacked: sees only what is computed from rows that were"}
    for record, (name, _) in zip(records, named(records), strict=True):
        assert record.privacy is not None
        own = [line for line in lines if line.setting == name and line.observer == "the server"]
        epsilon, top = record.privacy.epsilon("server"), own[0]
        assert epsilon is not None
        assert epsilon <= float(top.proven.removeprefix("≤ ")) < epsilon + 0.0101
        shown = max(b.lower for b in record.empirical if b.noise == "as run" and b.unit == record.privacy.unit)
        assert shown - 0.0101 < float(top.shown.removeprefix("≥ ")) <= shown
        assert {line.delta for line in own} == {top.delta}
        assert top.relation == record.privacy.guarantees[0].relation


@pytest.mark.slow
def test_a_damaged_or_older_audit_is_made_again(records: list[AuditRecord], tmp_path: Path, folder: Path) -> None:
    from dataclasses import asdict

    from autoflip_secure.scenarios.audits.sweep_audit import _finished
    from autoflip_secure.scenarios.audits.view import Effort

    effort = Effort()
    path = tmp_path / "one.json"
    path.write_text(records[0].model_dump_json())
    assert _finished(path, effort, records[0].inputs, "cpu") == records[0]
    assert asdict(effort) == records[0].effort
    assert [name.split()[0] for name in records[0].inputs] == ["data"]
    assert _finished(path, effort, dict.fromkeys(records[0].inputs, "other data"), "cpu") is None
    for text in (
        "{",
        records[0].model_copy(update={"versions": {"torch": "0"}}).model_dump_json(),
        records[0].model_copy(update={"effort": {"runs": 1}}).model_dump_json(),
    ):
        path.write_text(text)
        assert _finished(path, effort, records[0].inputs, "cpu") is None
    path.write_bytes(b"\xff\xfe")
    assert _finished(path, effort, records[0].inputs, "cpu") is None
    assert _finished(tmp_path / "none.json", effort, {}, "cpu") is None


def test_bad_input_is_one_sentence(folder: Path) -> None:
    for arguments, words in (
        (("audit", "nowhere.yaml"), "nowhere.yaml"),
        (("audit", "short.yaml", "--set", "attack={kind: label_flip, share: 1, scope: 1}"), "no honest client"),
        (("audit", "short.yaml", "--set", "rounds=-1"), "rounds"),
    ):
        found = command(*arguments, "--out", "other", folder=folder)
        assert found.returncode == 2, found.stdout
        assert words in found.stderr
        assert "Traceback" not in found.stderr


def test_every_setting_is_audited_once() -> None:
    work = plan(load("privacy_cost"))
    assert len(audited_cells(work, work.blocks)) * 5 == len(work.cells)
    demo = plan(load("audit_demo"))
    assert len(audited_cells(demo, demo.blocks)) == 5


@pytest.mark.slow
def test_words_of_an_audit(records: list[AuditRecord]) -> None:
    assert re.fullmatch(
        r"Up to \d+ % of a client's classes guessed \(chance \d+ %\); no attacker showed more than is proven",
        headline(records),
    )
    bare = records[0].model_copy(
        update={"empirical": [b.model_copy(update={"proven": None}) for b in records[0].empirical], "privacy": None}
    )
    assert headline([bare]).startswith("Nothing is proven for these settings, so there is no guarantee; up to ")
    assert headline([bare, records[1]]).startswith("No guarantee for 1 of 2 settings; up to ")
    assert headline([bare, records[1]]).endswith("; no attacker showed more than is proven for 1 of 2 settings")
    assert "nothing is proven" in sentences([bare])[1]
    assert "membership: not attacked" in sentences([bare.model_copy(update={"membership": []})])[1]
    twice = render_audit([bare, bare], {"name": "x"})
    assert "(2)" in twice, "settings of one name stay apart"
    long = [r.model_copy(update={"algorithm": "a" * 300}) for r in (bare, bare, bare)]
    cut = [_fitted(name) for name, _ in named(long)]
    assert len(set(cut)) == 3
    assert max(map(len, cut)) <= 56


@pytest.mark.slow
def test_hostile_names_stay_text(records: list[AuditRecord], tmp_path: Path) -> None:
    """Markup, text that runs from right to left, and 600 characters, wherever a user chooses words."""
    hostile = "<script>alert(1)</script>\u202eevil\u0000" + "x" * 600
    record = records[0].model_copy(
        update={"algorithm": hostile, "protection": {"kind": hostile}, "notes": [hostile], "axes": {hostile: hostile}}
    )
    page = render_audit([record, record], {"name": hostile, "question": hostile}, command=hostile)
    assert "<script>alert" not in page
    assert "\u202e" not in page.split("<details", 1)[0]


@pytest.mark.slow
def test_audits_in_the_folder_of_a_sweep_are_in_its_report(done: Any, folder: Path) -> None:
    """The audit first, then the sweep into the same folder."""
    swept = command("sweep", "short.yaml", folder=folder)
    assert swept.returncode == 0, swept.stderr
    page = (folder / "runs/tiny/report.html").read_text()
    assert "What attackers achieved" in page
    assert "no attacker showed more than is proven" in page
    assert 'id="bounds"' in page
    assert (folder / "runs/tiny/audit.html").exists()


@pytest.mark.slow
def test_final_models_are_not_drawn_among_updates(records: list[AuditRecord]) -> None:
    """Where updates pass through parties only the final model is attacked: one curve, not two."""
    one = records[0]
    finals = [m for m in one.membership if m.view == "final global model"]
    assert 0 < len(finals) < len(one.membership)
    both, last = (
        figures_audit.membership([one.model_copy(update={"membership": m})]) for m in (one.membership, finals)
    )
    assert both is not None
    assert last is not None
    assert "ROC curves of 2 attacks" in both.alt
    assert "ROC curves of 1 attack" in last.alt


@pytest.mark.slow
def test_every_observer_is_named_as_in_a_sentence(records: list[AuditRecord]) -> None:
    one = records[0]
    seen = [one.empirical[0].model_copy(update={"observer": who}) for who in ("server", "another client")]
    with drawing():
        picture = figures_audit.bounds([one.model_copy(update={"empirical": seen})])
    assert picture is not None
    assert ", the server, " in picture.markup
    assert ", another client, " in picture.markup


def test_names_beside_an_axis_leave_out_what_all_share() -> None:
    names = ["A · none, σ 1, flips", "A · none, σ 1, through 2 parties, flips"]
    assert figures_audit._shared_end(names) == ", flips"
    assert figures_audit._shared_end(names[:1]) == ""
    assert figures_audit._shared_end(["A, x", "B, x"]) == ", x"
    assert figures_audit._shared_end(["A, x", "A, y"]) == ""
    assert figures_audit._shared_end(["x", "x, x"]) == ""
