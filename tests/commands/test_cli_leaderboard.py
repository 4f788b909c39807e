"""``leaderboard`` and ``verify`` on a small board, with a defence of a stranger."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_board
from click.testing import Result
from sizes import every
from small_board import BOARD, invoke, tampered

from autoflip_secure.records.board import BoardEntry, read_entry
from autoflip_secure.reports.leaderboard.wording import NO_GUARANTEE

RUNS = 2 * 2 * (3 + 4 + 4)  # settings, seeds; none, greedy oracle, sign flip, and what knows median and halved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board, two runs of it, and an entry of each defence; never change it."""
    folder = tmp_path_factory.mktemp("board")
    small_board.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        for name, more in (("built", ()), ("mine", ("--set", f"sweep.algorithm={small_board.MINE}"))):
            invoke("sweep", "board.yaml", *more, "--out", name, "--no-report", "--workers", 1)
        invoke(*BOARD, "built", "mine", "--entries", "entries", "--markdown", "board.md")
    sys.modules.pop("strangers", None)
    return folder


PROVEN = {"observer": "server", "relation": "zero out one client", "epsilon": 0.1, "delta": 1e-5}


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return invoke


def nested(depth: int) -> Any:
    return {} if depth == 0 else {"x": nested(depth - 1)}


def test_runs_and_entries_give_the_same_board(folder: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    out = ("--out", tmp_path / "board.html", "--json")
    runs, entries, mixed = (
        json.loads(run(*BOARD, *places, *out).stdout)
        for places in (("built", "mine"), ("entries",), ("mine", "entries/fedavg.json", "entries/median.json"))
    )
    assert runs["views"] == entries["views"] == mixed["views"]
    assert [view["setting"] for view in runs["views"]] == ["all settings", "IID", "2 classes per client"]
    assert sorted(one["defence"] for one in runs["views"][0]["defences"]) == ["FedAvg", "halved", "median"]
    page = (tmp_path / "board.html").read_text()
    assert NO_GUARANTEE in page
    assert "aggregator strangers:Halved" in page
    assert "| halved |" in (folder / "board.md").read_text()


def test_an_entry_has_what_others_need(folder: Path) -> None:
    entry = read_entry(folder / "entries" / "halved.json")
    assert entry.seeds == [10, 11]
    assert [one.config["kind"] for one in entry.attacks] == ["greedy_oracle", "sign_flip", "ipm"]
    assert entry.outside == ["aggregator strangers:Halved"]
    assert [one.partition("what it")[0] for one in entry.sources] == [
        "source of algorithm.aggregator.kind strangers:Halved and "
    ]
    assert sum(len(runs.accuracies) for one in entry.settings for runs in one.runs) == 2 * 2 * 4
    digests = [one for setting in entry.settings for runs in setting.runs for one in runs.digests]
    assert len(set(digests)) == len(digests) == 2 * 2 * 4
    assert entry.needs["needs"] == "every update"
    assert {"torch", "numpy", "autoflip-secure", "kernels"} <= {*entry.versions}
    assert str(folder) not in (folder / "entries" / "halved.json").read_text()


def test_verify_finds_equal_bits(run: Callable[..., Result]) -> None:
    again = ("verify", "entries/halved.json", "--board", "board.yaml", "--seed", 1, "--cells", 3, "--json")
    done = json.loads(run(*again).stdout)
    assert (done["verdict"], done["seed"], done["other"]) == ("verified", 1, {})
    assert [one["equal"] for one in done["runs"]] == [True] * 3
    assert json.loads(run(*again).stdout)["runs"] == done["runs"]
    assert done["unchecked"] == ["13 other runs (--cells)", "tuning in 1 other setting (--tuned)", "means of costs"]


@pytest.mark.parametrize("kept", every(2, [True, False]))
def test_verify_finds_what_was_changed(folder: Path, run: Callable[..., Result], tmp_path: Path, *, kept: bool) -> None:
    """Also where whoever raised the accuracies kept the digests of what really ran."""

    def better(document: dict[str, Any]) -> None:
        for setting in document["settings"]:
            for runs in setting["runs"]:
                runs["accuracies"] = [min(1.0, one + 0.2) for one in runs["accuracies"]]
                runs["digests"] = runs["digests"] if kept else ["0" * 16 for _ in runs["digests"]]

    path = tampered(folder, tmp_path / "better.json", better, "median")
    done = run("verify", path, "--board", "board.yaml", "--seed", 1, "--cells", 2, exits=1)
    assert "differs: 0 of 2 runs equal to the last bit, 0 of 2 within 5 points" in done.stdout


@pytest.mark.slow
def test_with_other_versions_it_cannot_tell(folder: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    def older(document: dict[str, Any]) -> None:
        document["versions"]["torch"] = "1.0"
        for setting in document["settings"]:
            for runs in setting["runs"]:
                runs["digests"] = ["0" * 16 for _ in runs["digests"]]

    path = tampered(folder, tmp_path / "older.json", older, "fedavg")
    done = run("verify", path, "--board", "board.yaml", "--cells", 1, exits=2)
    assert "cannot tell: 0 of 1 run equal to the last bit, 1 of 1 within 5 points" in done.stdout
    assert "torch: 1.0 in the entry" in done.stdout


@pytest.mark.slow
def test_equal_bits_verify_whatever_the_versions(folder: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    path = tampered(folder, tmp_path / "x.json", lambda document: document["versions"].update(torch="1.0"), "fedavg")
    run("verify", path, "--board", "board.yaml", "--cells", 1)


def raised(document: dict[str, Any]) -> None:
    """Every accuracy by four points, and no digest that anybody could hold it against."""
    for setting in document["settings"]:
        for runs in setting["runs"]:
            runs["accuracies"] = [one + 0.04 for one in runs["accuracies"]]
            runs["digests"] = ["0" * 16 for _ in runs["digests"]]


def test_an_entry_cannot_excuse_itself(folder: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    """By saying that its runs repeat only together, or that it is of a processor which nobody has."""

    def together(document: dict[str, Any]) -> None:
        raised(document)
        document["bits"] = "block"

    def elsewhere(document: dict[str, Any]) -> None:
        raised(document)
        document["versions"]["kernels"] = "another"

    def slightly(document: dict[str, Any]) -> None:
        elsewhere(document)
        for setting in document["settings"]:
            for runs in setting["runs"]:
                runs["accuracies"] = [one - 0.02 for one in runs["accuracies"]]

    again = ("--board", "board.yaml", "--seed", 1, "--cells", 3)
    done = run("verify", tampered(folder, tmp_path / "z.json", slightly, "median"), *again)
    told = "accuracies of the entry may all be 2.9 points too high and pass, and the processor is the entry's own word"
    assert told in done.stdout
    done = run("verify", tampered(folder, tmp_path / "x.json", together, "median"), *again, exits=2)
    assert "3 of 3 within 5 points; the entry says of its runs that do not repeat" in done.stdout
    done = run("verify", tampered(folder, tmp_path / "y.json", elsewhere, "median"), *again, exits=1)
    assert "3 of 3 within 5 points, but 4.0 points higher in the entry on average" in done.stdout


def test_verify_tunes_one_setting_again(folder: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    """Whoever says that another value did better in tuning than it did had settings of their own choice."""

    def chosen(document: dict[str, Any]) -> None:
        for setting in document["settings"]:
            best = max(tried["accuracies"][0] for tried in setting["tried"])
            for tried in setting["tried"]:  # the choice stays, so that every reported run is equal
                if tried["accuracies"][0] == best:
                    tried["accuracies"] = [best + 0.01]
                    break

    again = ("--board", "board.yaml", "--seed", 1, "--cells", 1)
    done = json.loads(run("verify", "entries/median.json", *again, "--json").stdout)
    assert len(done["tuned"]) == 2
    assert all(one["entry"] == one["here"] for one in done["tuned"])
    told = run("verify", tampered(folder, tmp_path / "x.json", chosen, "median"), *again, exits=1).stdout
    assert "differs: 1 of 1 run equal to the last bit" in told
    assert "and tuning came to something else" in told
    assert "1 of 2 runs came to the same accuracy as in the entry" in told
    assert "; tuning in 1 other setting (--tuned); means of costs" in told
    every = run("verify", "entries/median.json", *again, "--tuned", 9).stdout
    assert "tuned again in settings " in every
    assert "4 of 4 runs came to the same accuracy" in every
    assert "other setting" not in every


def test_an_attack_that_knows_it_cannot_be_left_out(folder: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    """What the code of a stranger's defence names is not known before it is run again; then it is."""

    def without_it(document: dict[str, Any]) -> None:
        document["attacks"].pop()
        for setting in document["settings"]:
            setting["runs"].pop()

    path = tampered(folder, tmp_path / "x.json", without_it)
    done = run("verify", path, "--board", "board.yaml", "--seed", 1, "--cells", 1, exits=1)
    assert "differs: as its code here names them, the defence meets ipm too, and the entry does not" in done.stdout


@pytest.mark.parametrize(
    ("change", "why"),
    every(
        5,
        [
            (lambda d: d.update(seeds=[10]), "one run for each of 1 seeds"),
            (lambda d: d["attacks"][1]["config"].update(scale=0.1), "has other attacks than"),
            (lambda d: d["attacks"][2]["config"].update(scope=0.0), "has other malicious clients"),
            (lambda d: d["settings"][0]["tried"].pop(), "was not tuned as"),
            (lambda d: d.update(terms="0" * 16), "entries of two boards are never compared"),
            (lambda d: d["settings"][0]["runs"][0]["accuracies"].__setitem__(0, 7.0), "less than or equal to 1"),
            (lambda d: d["settings"][0]["runs"][0]["accuracies"].__setitem__(0, "NaN"), "finite"),
            (lambda d: d["settings"].reverse(), "each once"),
            (lambda d: d.update(entry_schema=9), "format 9"),
            (lambda d: d.pop("entry_schema"), "is not a board entry"),
            (lambda d: d.update(defence="x" * 501), "at most 500"),
            (lambda d: d.update(note="hello"), "note"),
            (lambda d: d.update(defence="FLTrust"), "is not written as a run of"),
            (lambda d: d.update(privacy=[PROVEN]), "states an epsilon"),
            (lambda d: d["attacks"][2]["config"].update(epsilon="much"), "with options as a run has them"),
            (lambda d: d["attacks"][2].update(config={**d["attacks"][2]["config"], "kind": {}}), "is no attack"),
            (lambda d: d["algorithm"]["aggregator"].update(x=nested(40)), "nested more than"),
            (lambda d: d["algorithm"]["aggregator"].update(x=[0] * 9000), "more than 2000 values"),
            (lambda d: d["algorithm"].update(pruner=3, aggregator={"kind": {}, "before": 5}), "is not written as"),
        ],
    ),
)
def test_entries_that_do_not_fit_are_refused(
    folder: Path, run: Callable[..., Result], tmp_path: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    path = tampered(folder, tmp_path / "x.json", change)
    done = run(*BOARD, path, "--out", tmp_path / "out.html", exits=2)
    assert " ".join(done.stderr.split()).count("error: ") == 1
    assert why in " ".join(done.stderr.split())
    assert not (tmp_path / "out.html").exists()


def test_an_attack_that_a_built_in_defence_did_not_meet(
    folder: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    def lighter(document: dict[str, Any]) -> None:
        document["attacks"].pop()
        for setting in document["settings"]:
            setting["runs"].pop()

    path = tampered(folder, tmp_path / "x.json", lighter, "median")
    assert "1 are missing" in " ".join(run(*BOARD, path, exits=2).stderr.split())


@pytest.mark.slow
def test_what_an_author_says_of_built_in_parts_is_not_taken(
    folder: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    def flattered(document: dict[str, Any]) -> None:
        document["needs"] = {"needs": "nothing at all"}
        document["attacks"][0]["threat"]["knowledge"] = "own"

    path = tampered(folder, tmp_path / "x.json", flattered, "median")
    run(*BOARD, path, "--out", tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text()
    assert "nothing at all" not in page
    assert "every update" in page


def test_an_entry_imports_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the stranger's code is not, the board shows the entry all the same; ``verify`` says what it lacks."""
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("strangers", None)
    board = ("--board", folder / "board.yaml")
    invoke("leaderboard", *board, folder / "entries")
    assert "strangers" not in sys.modules
    done = invoke("verify", folder / "entries" / "halved.json", *board, exits=2)
    assert "strangers" in done.stderr


@pytest.mark.slow
def test_runs_of_something_else_are_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    run("sweep", "board.yaml", "--set", "rounds=1", "--set", "sweep.algorithm=[fedavg]", "--out", tmp_path / "r",
        "--no-report")  # fmt: skip
    told = " ".join(run(*BOARD, tmp_path / "r", exits=2).stderr.split())
    assert "nothing but sweep.algorithm may differ; what differs is rounds: 2 -> 1" in told
    run("sweep", "board.yaml", "--set", "tune=null", "--set", "sweep.algorithm=[fedavg]", "--out", tmp_path / "s",
        "--no-report")  # fmt: skip
    told = " ".join(run(*BOARD, tmp_path / "s", exits=2).stderr.split())
    assert "nothing but sweep.algorithm may differ; what differs is tune, which the run has not" in told
    run("sweep", "board.yaml", "--set", "suite.attacks=[sign_flip, mimic]", "--set", "sweep.algorithm=[fedavg]",
        "--out", tmp_path / "t", "--no-report")  # fmt: skip
    told = " ".join(run(*BOARD, tmp_path / "t", exits=2).stderr.split())
    assert "what differs is suite: fedavg met mimic, which the board has not for it" in told
    told = " ".join(run("leaderboard", tmp_path / "r", exits=2).stderr.split())
    assert "is a run of 'board-small-1', which is no board; the boards are board-digits-1 and board-mnist-1" in told


@pytest.mark.slow
def test_a_defence_that_is_not_finished_is_left_out(folder: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "built"
    shutil.copytree(folder / "built", copy)
    gone = next(
        p for p in sorted((copy / "cells").glob("*.json")) if json.loads(p.read_text())["algorithm"] == "median"
    )
    gone.unlink()
    done = run(*BOARD, copy, "--out", tmp_path / "x.html", "--json")
    assert "median lacks 1 of 16 runs" in " ".join(done.stderr.split())
    assert [one["defence"] for one in json.loads(done.stdout)["views"][0]["defences"]] == ["FedAvg"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("leaderboard", "nowhere"), "no such file or folder"),
        (("leaderboard", "."), "neither a results folder nor a folder of entries"),
        (("verify", "nowhere.json"), "is not a file"),
        (("verify", "entries/fedavg.json"), "which is no board of this package"),
        (("verify", "entries/fedavg.json", "--set", "rounds=1"), "fixes all but"),
    ],
)
def test_what_cannot_be_read(run: Callable[..., Result], arguments: tuple[str, ...], why: str) -> None:
    assert why in " ".join(run(*arguments, exits=2).stderr.split())


@pytest.mark.slow
def test_two_numbers_for_one_defence(folder: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    def other(document: dict[str, Any]) -> None:
        document["settings"][0]["runs"][0]["accuracies"][0] = 0.5

    path = tampered(folder, tmp_path / "x.json", other)
    assert "same defence" in " ".join(run(*BOARD, "entries", path, exits=2).stderr.split())

    def as_another(document: dict[str, Any]) -> None:
        other(document)
        document["sources"] = {"source of something": "0" * 64}

    path = tampered(folder, tmp_path / "x.json", as_another, "median")
    assert "same defence" in " ".join(run(*BOARD, "entries", path, exits=2).stderr.split())
    path = tampered(folder, tmp_path / "x.json", lambda document: document.update(data="0" * 64), "fedavg")
    assert "other data" in " ".join(run(*BOARD, "entries/halved.json", path, exits=2).stderr.split())


def test_an_entry_reads_back_as_it_was_written(folder: Path) -> None:
    for path in sorted((folder / "entries").glob("*.json")):
        entry = read_entry(path)
        assert entry.text() == path.read_text(encoding="utf-8")
        assert BoardEntry.model_validate(entry.model_dump(mode="json")) == entry


def test_no_entry_is_written_over_by_that_of_another_defence(
    folder: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    there = tmp_path / "kept"
    there.mkdir()
    for name, change in (("median", lambda document: None), ("fedavg", lambda d: d.update(board="board-other-1"))):
        tampered(folder, there / f"{name}.json", change)  # of halved, under another name
    before = {path: path.read_bytes() for path in there.iterdir()}
    arguments = ("--entries", there, "--out", tmp_path / "x.html")
    run(*BOARD, "entries/median.json", *arguments)
    again = run(*BOARD, "entries/median.json", *arguments, "--json")
    new = there / f"median-{read_entry(folder / 'entries' / 'median.json').key}.json"
    assert json.loads(again.stdout)["entries"] == [str(new)]
    assert read_entry(new).defence == "median"
    told = " ".join(run(*BOARD, "entries/fedavg.json", *arguments, exits=2).stderr.split())
    assert "is an entry of board-other-1; give a folder for each board" in told
    assert {path: path.read_bytes() for path in there.iterdir() if path != new} == before
