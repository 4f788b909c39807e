"""Options of the gate: what decides, what is compared across, more seeds, trends, trackers; and `gate init`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_gates import edited
from click.testing import Result

from autoflip_secure.commands.gate_texts import Workflow, workflow_text

Here = Callable[..., Result]
DOC = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")


def dearer(record: dict[str, Any], _: object) -> None:
    record["costs"]["bytes"]["uplink_bitmask"] = int(1.5 * record["costs"]["bytes"]["uplink_bitmask"])


def test_costs_are_advisory_until_somebody_chooses_them(finished: Path, tmp_path: Path, here: Here) -> None:
    folder, held = edited(finished, tmp_path, dearer), tmp_path / "b.json"
    shutil.copy(finished / "baseline.json", held)
    shown = here("gate", folder, "--baseline", held)
    assert shown.exit_code == 0
    assert "advisory: 12 metrics shown, never failing: 4 worse, 8 within the margin" in shown.stdout
    assert here("gate", folder, "--baseline", held, "--metrics", "accuracy,costs").exit_code == 1
    assert here("gate", folder, "--baseline", held, "--metrics", "all", "--margin", "bytes=60%").exit_code == 0
    kept = here(
        "gate", finished / "run", "--baseline", held, "--update", "--reason", "x", "--metrics", "accuracy,bytes"
    )
    assert "accuracy, bytes decides; advisory: costs" in kept.stdout
    remembered = here("gate", folder, "--baseline", held, "--json")
    assert remembered.exit_code == 1
    assert json.loads(remembered.stdout)["choice"]["deciding"] == [
        "attacked_accuracy", "bytes", "clean_accuracy", "degradation_area",
    ]  # fmt: skip
    assert here("gate", folder, "--baseline", held, "--metrics", "accuracy").exit_code == 0
    again = here("gate", finished / "run", "--baseline", held, "--update", "--reason", "y", "--json")
    assert "bytes" in json.loads(again.stdout)["choice"]["deciding"]


def test_a_history_grows_and_is_drawn(
    finished: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_SHA", "0123456789abcdef")
    gate = ("gate", finished / "run", "--baseline", finished / "baseline.json", "--history", "deep/t.jsonl")
    for more in (("--label", "<b>first</b>"), ("--trend", "t.html"), ("--trend", "t.svg"), ("--trend", "t.png")):
        done = here(*gate, *more)
        assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (tmp_path / "deep" / "t.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == ["<b>first</b>", *["012345678"] * 3]
    assert len(lines[0]["metrics"]) == 17
    page = (tmp_path / "t.html").read_text()
    assert "&lt;b&gt;first&lt;/b&gt;" in page
    assert "<b>first" not in page
    assert "<svg" in (tmp_path / "t.svg").read_text()
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "deep" / "t.jsonl").write_text('{"a": 1}\n')
    wrong = here(*gate)
    assert wrong.exit_code == 2
    assert "t.jsonl:1: is no line of a gate's history" in wrong.stderr
    assert (tmp_path / "deep" / "t.jsonl").read_text() == '{"a": 1}\n'


def test_trackers_get_their_formats(finished: Path, tmp_path: Path, here: Here) -> None:
    names = {"customBiggerIsBetter": "up.json", "customSmallerIsBetter": "down.json", "bencher": "bmf.json"}
    options = [word for name, file in names.items() for word in ("--export", f"{name}={file}")]
    done = here("gate", finished / "run", "--baseline", finished / "baseline.json", *options, "--json")
    assert done.exit_code == 0, done.output
    rows = {(f"{r['algorithm']} · {r['condition']}", r["metric"]): r["new"] for r in json.loads(done.stdout)["metrics"]}
    up, down, bmf = (json.loads((tmp_path / file).read_text()) for file in names.values())
    assert all({"name", "unit", "value"} <= row.keys() for row in up + down)
    assert {row["unit"] for row in up} == {"share"}
    assert {row["unit"] for row in down} == {"bytes", "FLOPs"}
    assert len(up) + len(down) == len(rows)
    found = {(name, kind.replace("-", "_")): one["value"] for name, row in bmf.items() for kind, one in row.items()}
    assert found == rows


@pytest.mark.slow
def test_more_seeds_are_those_of_the_baseline(finished: Path, tmp_path: Path, here: Here) -> None:
    """The same code on two of four seeds, one run then made to wobble: the others are run, and pair."""
    swept = here(
        "sweep", finished / "small.yaml", "--set", "seeds=[10, 11]", "--out", "few", "--no-report", "--workers", 1
    )
    assert swept.exit_code == 0, swept.output
    gate = ("gate", tmp_path / "few", "--baseline", finished / "baseline.json")
    same = here(*gate, "--more-seeds", "--workers", 1)
    assert (same.exit_code, (tmp_path / "few" / "more_seeds").exists()) == (0, False)  # there is nothing to settle
    (tmp_path / "few").rename(tmp_path / "run")

    def wobble(record: dict[str, Any], _: object) -> None:
        for entry in record["rounds"]:
            entry["test_accuracy"] += 0.1 * (-1) ** record["seed"]

    folder = edited(tmp_path, tmp_path, wobble)
    gate = ("gate", folder, "--baseline", finished / "baseline.json")
    asked = here(*gate)
    assert asked.exit_code == 2
    assert "2 seeds of the baseline can be added: --more-seeds runs them" in asked.stdout
    done = here(*gate, "--more-seeds", "--workers", 1, "--json")
    said = json.loads(done.stdout)
    assert said["level"] == 0.025
    assert {row["seeds"]["new"] for row in said["metrics"]} == {4}
    assert said["identical_cells"] == 8  # the seeds that were run now
    assert (folder / "more_seeds" / "manifest.json").exists()
    spent = here(*gate, "--more-seeds", "--workers", 1)
    assert "All seeds of the baseline were run" in spent.stdout
    whole = here(
        "gate", edited(finished, tmp_path / "w", wobble), "--baseline", finished / "baseline.json", "--more-seeds"
    )
    assert whole.exit_code == 2
    assert "note: --more-seeds: the sweep has every seed of the baseline already" in whole.stderr


def test_options_that_do_not_go_together_are_one_sentence(finished: Path, tmp_path: Path, here: Here) -> None:
    gate = ("gate", finished / "run", "--baseline", finished / "baseline.json")
    update = ("--update", "--reason", "x")
    for more, said in (
        (("--metrics", "speed"), "--metrics speed: there is no metric or group 'speed'"),
        (("--metrics", "backdoors"), "--metrics backdoors: the baseline has none of these"),
        (("--advisory", "all"), "leaves no metric that could fail"),
        (("--across", "training.rate"), "no configuration has this setting; did you mean 'training.lr'?"),
        (("--trend", "t.html"), "plots the trend file; give that with --history FILE"),
        (("--label", "x"), "give that with --history FILE"),
        (("--history", "t.jsonl", "--trend", "t.pdf"), "should end in .html, .svg or .png"),
        (("--export", "csv=x"), "there is no format 'csv'"),
        (("--export", "bencher"), "names no file"),
        (("--export", "bencher=a", "--export", "customBiggerIsBetter=a"), "a is given twice"),
        (("--workers", "2"), "give it with --more-seeds"),
        ((*update, "--across", "training.lr"), "--update compares nothing: leave out --across"),
        ((*update, "--more-seeds", "--history", "x"), "leave out --history and --more-seeds"),
        (("--margin", "bytes=10"), "'10' is not a number from 0 to below 1; write bytes=5%"),
    ):
        done = here(*gate, *more)
        assert done.exit_code == 2, done.output
        assert said in " ".join(done.stderr.split())
        assert done.stderr.count("error: ") == 1
    assert not list(tmp_path.iterdir())


def test_init_writes_what_the_page_shows(tmp_path: Path, here: Here) -> None:
    done = here("gate", "init", "--no-baseline", "--set", "model={kind: mlp, hidden: [8]}", "--set", "clients=6")
    assert done.exit_code == 0, done.output
    written = yaml.safe_load((tmp_path / "robustness.yaml").read_text())
    assert (written["clients"], written["model"]) == (6, {"kind": "mlp", "hidden": [8]})
    page = yaml.safe_load(DOC.partition("```yaml\n")[2].partition("```")[0])
    assert {key: written[key] for key in page if key not in ("data", "model", "clients")} == {
        key: page[key] for key in page if key not in ("data", "model", "clients")
    }
    assert (tmp_path / ".github/workflows/robustness.yml").read_text() == workflow_text(Workflow.github, "robustness")
    for kind in (Workflow.github, Workflow.gitlab):
        assert f"```yaml\n{workflow_text(kind, 'robustness')}```" in DOC
    assert here("gate", "init", "--no-baseline", "--name", "other", "--workflow", "gitlab").exit_code == 0
    assert "autoflip-secure gate runs/other --baseline other.json" in (tmp_path / "other.gitlab-ci.yml").read_text()


def test_init_overwrites_nothing_and_writes_nothing_wrong(tmp_path: Path, here: Here) -> None:
    (tmp_path / "robustness.json").write_text("mine")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "taken").write_text("mine")
    for more, said in (
        ((), "robustness.json already exists, and nothing is overwritten"),
        (("--name", "a", "--set", "rounds=0"), "rounds"),
        (("--name", "a", "--set", "name=b"), "give --name NAME instead"),
        (("--name", "a/b", "--no-baseline"), "name"),
        (("--name", "a", "--set", "model=no_such:net"), "no_such"),
        (("--name", "taken"), "runs/taken: cannot be written (Not a directory); run it in another folder"),
    ):
        done = here("gate", "init", *more)
        assert done.exit_code == 2, done.output
        assert said in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "runs"] == ["robustness.json"]


def test_a_folder_called_init_can_be_gated(finished: Path, tmp_path: Path, here: Here) -> None:
    shutil.copytree(finished / "run", tmp_path / "init")
    done = here("gate", "./init", "--baseline", finished / "baseline.json")
    assert done.exit_code == 0, done.output
