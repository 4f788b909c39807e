"""``import autoflip_secure as af``: what people write in a notebook or a script, with real runs."""

import gc
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import autoflip_secure as af
from autoflip_secure.cli import app
from autoflip_secure.runtime import processes

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "name": "tiny",
    "clients": 4,
    "cohort": 2,
    "rounds": 2,
    "training": {"epochs": 1, "batch_size": 32},
    "data": {"kind": "digits", "train_samples": 120, "test_samples": 50},
    "model": {"kind": "mlp", "hidden": [8]},
    "seeds": [3, 5],
    "sweep": {"product": {"attack": ["none", {"kind": "gaussian_noise", "sigma": 0.5, "scope": 0.25}],
                          "algorithm": ["fedavg", "median"]}},
}  # fmt: skip


@pytest.fixture(scope="module")
def results() -> af.Results:
    return af.run(TINY)


def test_importing_does_not_import_torch() -> None:
    code = (
        "import sys, autoflip_secure as af; dir(af); af.InputError, af.__version__\n"
        "print({'torch', 'numpy', 'pandas', 'pydantic', 'scenarios', 'reports'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_names_are_where_they_say() -> None:
    assert set(af.__all__) <= set(dir(af))
    for name in af.__all__:
        assert getattr(af, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Run'"):
        af.Run  # noqa: B018 - asked for, not used


def test_a_dictionary_and_a_file_with_changes_are_one(results: af.Results, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY | {"rounds": 7, "seeds": [3]}))
    again = af.run(tmp_path / "tiny.yaml", rounds=2, seeds=range(3, 6, 2), workers=1)
    pd.testing.assert_frame_equal(again.frame(), results.frame())


def test_numbers_are_the_command_lines(results: af.Results, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))
    arguments = ["sweep", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out"), "--no-report"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    loaded = af.load(tmp_path / "out")
    pd.testing.assert_frame_equal(loaded.rounds(), results.rounds())
    pd.testing.assert_frame_equal(loaded.frame(), results.frame())
    assert (loaded.name, loaded.outcome, loaded.reused) == ("tiny", results.outcome, 8)
    assert dict(loaded.scenario) == dict(results.scenario)


def test_what_results_answer(results: af.Results) -> None:
    frame, rounds = results.frame(), results.rounds()
    assert (len(frame), len(rounds)) == (8, 16)
    mine = frame[(frame["algorithm"] == "median") & (frame["attack"] != "no attack")].sort_values("seed")
    assert results.accuracy(algorithm="median", sigma=0.5).values == tuple(mine["outcome_accuracy"])
    assert "tiny: 8 cells" in repr(results)
    html = results._repr_html_()
    assert f"{100 * results.accuracy(algorithm='median', sigma=0.5).mean:.1f} [" in html


def test_overrides_lead_into_mappings(tmp_path: Path) -> None:
    found = af.run(
        TINY, sweep=None, attack={"kind": "gaussian_noise"}, attack__sigma=np.float64(0.25), attack__clients=(1,),
        algorithm="fedavg", seeds=np.array([4]), out=tmp_path / "out",
    )  # fmt: skip
    (record,) = found.records
    assert (record.config["attack"]["sigma"], record.config["attack"]["clients"], record.seed) == (0.25, [1], 4)
    assert found.folder == tmp_path / "out"
    assert found.reused == 0
    again = af.run(
        TINY, sweep=None, attack={"kind": "gaussian_noise", "sigma": 0.25, "clients": [1]}, algorithm="fedavg",
        seeds=[4], out=str(tmp_path / "out"),
    )  # fmt: skip
    assert again.reused == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: af.run("noise_magnitud"), "'noise_magnitud' is neither a scenario file nor a preset; did you mean"),
        (lambda: af.run(TINY, roundz=3), "run(…, roundz=3): unknown key 'roundz'; did you mean 'rounds'?"),
        (lambda: af.run(TINY, rounds=0), "run(…, rounds=0): rounds = 0: should be greater than or equal to 1"),
        (lambda: af.run(TINY, model=object()), "cannot be part of a scenario (object is not plain data)"),
        (lambda: af.run(TINY, training__lr=float("nan")), "cannot be part of a scenario (Out of range float values"),
        (lambda: af.run(TINY | {"rounds": "3"}), "run({…}): rounds = '3': should be a number; write 3 without quotes"),
        (lambda: af.run(TINY | {"clients": 10**30}), "run({…}): clients = 1e+30: whole numbers go up to 2^63 - 1"),
        (lambda: af.run(TINY, attack__sigma=1), "with sweep__attack=[…], or drop the sweep with sweep=None"),
        (
            lambda: af.run(TINY, sweep=None, sweep__attack__sigma=[1]),
            "there is no sweep; give one with sweep={'product': {'attack.sigma': […]}}",
        ),
        (lambda: af.run(TINY, workers=0), "run(…, workers=0): give a whole number from 1, or leave it out"),
        (lambda: af.run(TINY, out=" "), "run(…, out=' '): is not a path; name a folder, or leave it out"),
        (lambda: af.run(TINY, out=3), "run(…, out=3): is not a path"),  # type: ignore[arg-type]
        (lambda: af.run(3), "run(3): is not a path; give a scenario file, a dictionary or a preset: "),  # type: ignore[arg-type]
        (lambda: af.run(""), "run(''): is not a path; give a scenario file, a dictionary or a preset: "),
        (lambda: af.load(""), "load(''): is not a path; name the folder of a run"),
        (lambda: af.run(TINY, __x=3), "run(…, __x=3): names no key of a scenario; two underscores lead into a mapping"),
        (lambda: af.run(TINY, **{"rounds=2,x": 3}), "names no key of a scenario"),
        (  # found when the sweep is checked, after the scenario has been read
            lambda: af.run(TINY, model__hidden=[10**9]),
            "run(…, model__hidden=[1000000000]): ",
        ),
        (
            lambda: af.run(TINY, model={"kind": "custom", "factory": "__main__:net"}),
            "__main__ is the script or notebook that is being run, from which other processes cannot import",
        ),
        (lambda: af.run(TINY, data="mnist"), "mnist"),
    ],
)
def test_errors_are_input_errors_in_the_command_lines_words(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(af.InputError) as caught:
        call()
    assert words in str(caught.value)
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(af.StoreError, match="no such folder"):
        af.load(tmp_path / "nowhere")
    small = TINY | {"sweep": None, "seeds": [3], "algorithm": "fedavg"}
    af.run(small, out=tmp_path / "out")
    with pytest.raises(af.StoreError, match="give another folder with out=") as caught:
        af.run(small, rounds=1, out=tmp_path / "out")
    assert "rounds: 2 -> 1" in str(caught.value)


def test_a_temporary_folder_goes_with_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []

    def render(*_: Any, command: str, **__: Any) -> str:  # figures take seconds
        commands.append(command)
        return "<html>"

    monkeypatch.setattr("autoflip_secure.reports.pages.report._rendered", render)
    small = TINY | {"sweep": None, "seeds": [3], "algorithm": "fedavg"}
    found = af.run(small)
    folder = found.folder
    assert (folder / "cells").is_dir()
    page = found.report(tmp_path / "own" / "noise.html")
    assert page == tmp_path / "own" / "noise.html"
    assert {path.name for path in page.parent.iterdir()} == {
        "noise.html", "noise.md", "cells.csv", "cells.parquet", "results.csv", "results.parquet",
    }  # fmt: skip
    assert found.report(tmp_path / "all") == tmp_path / "all" / "report.html"
    with pytest.raises(af.InputError, match=r"should end in \.html"):
        found.report(tmp_path / "noise.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(af.StoreError, match=r"cannot be written \(.*\); give another folder$"):
        found.report(tmp_path / "file" / "noise.html")
    del found
    gc.collect()
    assert not folder.exists()
    kept = af.run(small)
    page = kept.report()
    del kept
    gc.collect()
    assert page.read_text() == "<html>"
    assert set(commands) == {""}  # what pytest was called with repeats nothing


def test_an_interrupted_run_keeps_its_finished_cells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from autoflip_secure.scenarios.store.store import Store

    saved, save = [], Store.save

    def one(self: Store, record: Any) -> None:
        if saved:
            raise KeyboardInterrupt
        saved.append(self.folder)
        save(self, record)

    monkeypatch.setattr(Store, "save", one)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        af.run(TINY)
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.undo()
    assert f"the same call with out={str(saved[0])!r} continues" in capsys.readouterr().err
    part = af.load(saved[0])
    assert (len(part.frame()), len(part.missing)) == (1, 7)
    assert "7 of 8 cells are missing" in capsys.readouterr().err
    assert "7 cells are missing" in part._repr_html_()
    assert af.run(TINY, out=saved[0]).reused == 1


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_in_another_thread(results: af.Results, workers: int) -> None:
    """A kernel may run cells in any thread; worker processes give the same numbers."""
    found: list[af.Results] = []
    seeds = [3, 5] if workers == 1 else [3, 5, 7, 8]  # one block, or two
    thread = threading.Thread(target=lambda: found.append(af.run(TINY, seeds=seeds, workers=workers)))
    thread.start()
    thread.join()
    assert len(found[0].records) == 4 * len(seeds)
    for attack, algorithm in (("none", "fedavg"), ("gaussian_noise", "median")):
        asked = {"attack": attack, "algorithm": algorithm, "seed": [3, 5]}
        assert found[0].accuracy(**asked).values == results.accuracy(**asked).values


def test_processes_do_not_run_the_script_that_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing.spawn import get_preparation_data

    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "/script.py", raising=False)
    monkeypatch.setattr(main, "__spec__", None, raising=False)
    assert "init_main_from_path" in get_preparation_data("x")
    with processes._without_script():
        assert "init_main_from_path" not in get_preparation_data("x")
    assert sys.modules["__main__"] is main


@pytest.mark.slow
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        f"import autoflip_secure as af\nprint(len(af.run({TINY!r}, seeds=[1, 2, 3, 4], workers=2).frame()))\n"
    )
    said = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert (said.returncode, said.stdout) == (0, "16\n"), said.stderr


NETS = """
from torch import nn
def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, {width}), nn.ReLU(), nn.Linear({width}, 10))
"""


def test_an_edited_module_is_not_taken_for_what_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook a module is edited between runs; Python goes on with what it has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "edited_nets", raising=False)
    small = TINY | {"sweep": None, "seeds": [3], "algorithm": "fedavg", "model": "edited_nets:net"}
    with pytest.raises(af.InputError, match="cannot import edited_nets"):
        af.run(small)
    Path("edited_nets.py").write_text(NETS.format(width=6))  # a file that was not there a moment ago
    assert af.run(small).frame()["parameters"].tolist() == [65 * 6 + 7 * 10]
    Path("edited_nets.py").write_text(NETS.format(width=7))
    with pytest.raises(af.InputError, match=r"its source has changed since .* restart the kernel"):
        af.run(small)
    monkeypatch.delitem(sys.modules, "edited_nets")
    assert af.run(small).frame()["parameters"].tolist() == [65 * 7 + 8 * 10]


def test_failed_training_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    af.run(TINY | {"sweep": None, "seeds": [3], "algorithm": "fedavg", "training": {"lr": 1e-30}})
    assert "note: Hardly better than chance" in capsys.readouterr().err
