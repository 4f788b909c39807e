"""Asking a sweep: which cells a keyword means, what an estimate says, what a kept result depends on."""

import json
import math
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.store.fingerprints import run_digest, sources
from autoflip_secure.scenarios.testing.estimates import Estimate
from autoflip_secure.scenarios.testing.robustness import Results, Robustness

SCENARIO = """
name: grid
clients: 4
cohort: 3
rounds: 2
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 120, test_samples: 50}
model: {kind: mlp, hidden: [8]}
seeds: [5, 3]
sweep:
  - product:
      partition: [iid, {kind: dirichlet, alpha: 0.5}]
      attack: [{kind: gaussian_noise, sigma: 0.5, scope: 0.25}, {kind: gaussian_noise, sigma: 2, scope: 0.25}]
      algorithm: [fedavg, autoflip]
  - product: {attack: [{kind: label_flip, share: 1.0, scope: 0.25}, none], algorithm: [fedavg]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "grid.yaml").write_text(SCENARIO)
    return folder


@pytest.fixture(scope="module")
def results(home: Path) -> Results:
    torch.set_num_threads(1)
    return Robustness(home, home / "cache")("grid.yaml")


# ------------------------------------------------------------------------------------------------ selection


def by_hand(results: Results, **wanted: Any) -> list[tuple[int, float]]:
    """(seed, accuracy) of the cells, read off the JSON files with plain loops."""
    found = []
    for path in (results.folder / "cells").glob("*.json"):
        cell = json.loads(path.read_text())
        config = cell["config"]
        facts = {
            "algorithm": config["algorithm"]["name"],
            "sigma": config["attack"].get("sigma"),
            "attack": config["attack"]["kind"],
            "partition": config["partition"]["kind"],
            "seed": cell["seed"],
        }
        if all(facts[key] == value for key, value in wanted.items()):
            found.append((cell["seed"], cell["final_accuracy"]))
    return sorted(found)


@pytest.mark.parametrize(
    "wanted",
    [
        {"algorithm": algorithm, "sigma": sigma, "partition": partition}
        for algorithm in ("fedavg", "autoflip")
        for sigma in (0.5, 2)
        for partition in ("iid", "dirichlet")
    ]
    + [{"attack": "label_flip"}, {"attack": "none"}],
)
def test_selection_is_what_a_plain_loop_finds(results: Results, wanted: dict[str, Any]) -> None:
    found = results.accuracy(**wanted)
    assert list(zip(found.seeds, found.values, strict=True)) == by_hand(results, **wanted)
    assert found.n == 2
    one = results.accuracy(**wanted, seed=3)
    assert (one.seeds, one.values) == ((3,), (found.values[0],))
    assert results.accuracy(**wanted, seed=[3, 5]) == Estimate(
        results.accuracy(**wanted, seed=[3, 5]).name, found.seeds, found.values
    )


@pytest.mark.parametrize(
    "wanted",
    [
        {"attack": {"kind": "gaussian_noise", "sigma": 2}},
        {"sigma": 2.0},
        {"attack__sigma": 2},
        {"attack.sigma": 2},
        {"sigma": 2, "scope": 0.25, "hidden": [8], "model": "mlp", "rounds": 2, "data": "digits"},
        {"sigma": 2, "server_lr": 1, "server_momentum": 0},
    ],
)
def test_ways_to_name_the_same_condition(results: Results, wanted: dict[str, Any]) -> None:
    asked = {"algorithm": "fedavg", "partition": "iid"}
    assert results.accuracy(**asked, **wanted).values == results.accuracy(**asked, sigma=2).values
    assert results.accuracy(**asked, **wanted).values != results.accuracy(**asked, sigma=0.5).values


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, "accuracy(): 10 conditions match; add what tells them apart:\n  partition='iid', attack="),
        ({"sigma": 0.5, "algorithm": "fedavg"}, "2 conditions match"),
        ({"sigma": 0.7}, "accuracy(sigma=0.7): no cell matches; there are:\n  partition='iid', attack={'kind':"),
        ({"sigma": 0.7}, "algorithm='autoflip' (seed 3, 5)"),
        ({"sgima": 0.5}, "no cell has a key 'sgima'; did you mean 'sigma'?"),
        ({"attack__sgima": 0.5}, "no cell has a key 'attack.sgima'; did you mean 'attack.sigma'?"),
        ({"lr": 0.1}, "'lr' may mean training__lr, exploration__lr; write one of them"),
        ({"attack": "none", "seed": 4}, "no cell matches"),
        ({"attack": "none", "algorithm": "fedavg", "seed": range(3, 5)}, "there is no cell with seed 4; there are:"),
        ({"attack": "none", "rounds": True}, "no cell matches"),
    ],
)
def test_what_cannot_be_answered_says_what_there_is(results: Results, wanted: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as error:
        results.accuracy(**wanted)
    assert expected in str(error.value)


def test_other_numbers_of_a_record(results: Results) -> None:
    where = {"sigma": 2, "algorithm": "autoflip", "partition": "iid"}
    records = [r for r in results.records if r.axes["algorithm"] == "autoflip" and r.axes["partition"] == "iid"]
    records = sorted((r for r in records if r.axes["attack"]["sigma"] == 2), key=lambda r: r.seed)
    assert results.loss(**where).values == tuple(r.final_loss for r in records)
    assert results.density(**where).values == tuple(r.rounds[-1].density for r in records)
    assert results.uplink_bytes(**where).values == tuple(r.costs.bytes.uplink_values for r in records)
    assert results.training_flops(**where).values == tuple(r.costs.flops.sparse for r in records)
    assert results.measure(lambda r: r.parameters, **where).values == (records[0].parameters,) * 2
    aucs = [r.detection.auc for r in records if r.detection]
    assert all(auc is not None for auc in aucs)
    assert results.detection_auc(**where).values == tuple(aucs)
    with pytest.raises(InputError, match=r"not defined for fedavg with seed 3, whose aggregator does not score"):
        results.detection_auc(sigma=2, algorithm="fedavg", partition="iid")


def test_the_outcome_is_the_scenario_s_and_the_runs_serve_every_one(home: Path, results: Results) -> None:
    fixture = Robustness(home, home / "cache")
    last, mean = fixture("grid.yaml", outcome="last"), fixture("grid.yaml")
    assert (last.folder, last.reused) == (mean.folder, len(results.records))  # nothing is run again
    assert (str(last.outcome), str(mean.outcome)) == ("last", "mean of the last 5 evaluations")
    run = results.records[0]
    rounds = [
        run.rounds[0].model_copy(update={"round": i + 1, "test_accuracy": value, "test_loss": 1 - value})
        for i, value in enumerate((0.1, 0.2, 0.3, 0.5))
    ]
    run = run.model_copy(update={"rounds": rounds, "final_accuracy": 0.5, "final_loss": 0.5})
    asked = [Results("x", home, (run,), 0, rule) for rule in (last.outcome, mean.outcome)]
    assert [r.accuracy().values for r in asked] == [(0.5,), (0.4,)]
    assert [r.loss().values for r in asked] == [(0.5,), (pytest.approx(0.6),)]


# ------------------------------------------------------------------------------------------------ estimates


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=9))
def test_interval_is_that_of_a_t_test(values: list[float]) -> None:
    found = Estimate("x", tuple(range(len(values))), tuple(values))
    assert found.lower <= found.mean <= found.upper
    if max(values) - min(values) > 1e-6:
        known = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert (found.lower, found.upper) == pytest.approx((known.low, known.high), abs=1e-9)


def test_interval_by_hand_and_coverage() -> None:
    assert Estimate("x", (1, 2), (0.0, 2.0)).upper == pytest.approx(1 + 12.7062047364 * math.sqrt(2) / math.sqrt(2))
    random = torch.Generator().manual_seed(0)
    draws = torch.randn(2000, 5, generator=random).tolist()
    inside = [e.lower < 0 < e.upper for row in draws if (e := Estimate("x", (1, 2, 3, 4, 5), tuple(row)))]
    assert 0.935 < sum(inside) / len(inside) < 0.965


def test_one_seed_has_no_interval() -> None:
    one = Estimate("accuracy(sigma=0.5)", (7,), (0.9,))
    assert (one.mean, one.n, repr(one)) == (0.9, 1, "<accuracy(sigma=0.5) = 0.9, one seed>")
    for end in ("lower", "upper"):
        with pytest.raises(InputError, match=r"accuracy\(sigma=0.5\): there is one seed only \(7\).*more seeds"):
            getattr(one, end)


def test_differences_are_paired_by_seed() -> None:
    a, b = Estimate("a", (1, 2, 3), (0.9, 0.5, 0.7)), Estimate("b", (1, 2, 3), (0.8, 0.41, 0.6))
    assert (a - b).values == pytest.approx((0.1, 0.09, 0.1))
    assert (a - b).lower > 0 > a.lower - b.upper
    assert repr(a - b).startswith("<a - b = 0.09667 [")
    with pytest.raises(InputError, match=r"a has seeds \[1, 2, 3\] and c has \[1\]"):
        a - Estimate("c", (1,), (0.1,))


# ------------------------------------------------------------------------------------------------ running, keeping


def test_kept_results_are_taken_up(home: Path, results: Results) -> None:
    again = Robustness(home, home / "cache")("grid.yaml")
    assert (results.reused, again.reused, again.folder) == (0, 20, results.folder)
    assert [r.numbers() for r in again.records] == [r.numbers() for r in results.records]
    ask = Robustness(home, home / "cache")
    assert ask("grid.yaml") is ask(home / "grid.yaml")


def test_overrides_presets_and_workers(home: Path) -> None:
    threads, folder = torch.get_num_threads(), Path.cwd()
    ask = Robustness(home, home / "cache", workers=2)
    short = {"seeds": [1], "sweep": None, "rounds": 1}
    found = ask("grid.yaml", **short, attack={"kind": "gaussian_noise"}, attack__sigma=3)
    assert found.accuracy(sigma=3).n == 1
    demo = ask("demo", **short, tune=None, data={"kind": "digits", "train_samples": 100}, training__epochs=1)
    assert demo.name == "demo"
    assert (torch.get_num_threads(), Path.cwd()) == (threads, folder)
    with pytest.raises(InputError, match=r"robustness\(…, rounds=<object.*is not plain data.*give numbers"):
        ask("grid.yaml", rounds=object())
    with pytest.raises(
        InputError, match=r"^robustness\(…, training__lr=-1\): training\.lr = -1: should be greater than 0"
    ):
        ask("grid.yaml", **short, training__lr=-1)
    with pytest.raises(InputError, match=r"no such preset; did you mean 'demo'"):
        ask("demoo")


def test_what_a_kept_result_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change that may change numbers changes the digest; others do not."""

    def data(samples: int) -> None:
        x, y = np.random.default_rng(samples).normal(size=(samples, 4)), np.arange(samples) % 2
        np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "fingerprinted"
    package.mkdir()
    data(8)
    files = {
        "__init__.py": "",
        "net.py": "import torch\nfrom . import parts\nfrom fingerprinted.more import wide\n",
        "parts.py": "from .deeper import x\n",
        "deeper.py": "x = 1\n",
        "more.py": "import fingerprinted_beside\n",
        "unrelated.py": "",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    (tmp_path / "fingerprinted_beside.py").write_text("")
    text = "name: a\nmodel: 'fingerprinted.net:make'\ndata: {kind: npz, path: mine.npz}\nrounds: 3\n"
    (tmp_path / "a.yaml").write_text(text)

    def now(*overrides: str) -> str:
        return run_digest(plan(load("a.yaml", overrides)))

    seen = [now(), now("rounds=4"), now("seeds=[1]")]
    for path in [*(package / name for name in files if name != "unrelated.py"), tmp_path / "fingerprinted_beside.py"]:
        path.write_text(path.read_text() + "# changed\n")
        seen.append(now())
    data(9)  # the file is read again, though this process has it in memory
    seen.append(now())
    os.utime(tmp_path / "mine.npz")
    assert now() == seen[-1]
    assert all(a != b for a, b in combinations(seen, 2))
    (package / "unrelated.py").write_text("y = 2\n")
    assert now() == seen[-1]
    assert now("question=Why?") == seen[-1]
    (package / "net.py").write_text("not python (")
    assert now() not in seen
    (tmp_path / "mine.npz").unlink()
    with pytest.raises(InputError, match=r"mine\.npz: no such file"):
        now()


def test_sources_of_what_is_installed_stay_inside_it() -> None:
    found = sources("yaml.loader")
    assert {"loader.py", "__init__.py", "resolver.py"} <= {path.name for path in found}
    assert {path.parent.name for path in found} == {"yaml"}
    assert sources("there_is_no.such_module") == []
