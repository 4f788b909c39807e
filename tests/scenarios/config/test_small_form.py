"""The small form of a scenario: what it changes, where it says so, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import autoflip_secure as af
from autoflip_secure.cli import app
from autoflip_secure.errors import InputError
from autoflip_secure.records.newer_keys import without_newer
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, load, resolve, to_yaml
from autoflip_secure.scenarios.config.small_form import with_small_form

WRITTEN = """
name: mine
question: Does it run?
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [32]}
clients: 5
cohort: 2
rounds: 9
training: {epochs: 2, batch_size: 64}
seeds: [10, 11]
sweep: {product: {algorithm: [fedavg, autoflip, median]}}
small:
  rounds: 1
  model.hidden: [4]
  training: {epochs: 1, batch_size: 64}
  exploration.epochs: 1
  seeds: [10]
  sweep.algorithm: [fedavg, median]
"""


def loaded(*overrides: str, text: str = WRITTEN, small: bool = True) -> LoadedScenario:
    return resolve(Document.parse(text, "mine.yaml"), overrides, small=small)


def test_it_is_a_scenario_of_its_own() -> None:
    full, small = loaded(small=False), loaded()
    assert (len(full.cells), len(small.cells)) == (6, 2)
    assert (full.header.name, full.header.form) == ("mine", "full")
    assert (small.header.name, small.header.form) == ("mine-small", "small")
    assert small.header.small is None
    for cell in small.cells:
        settings = cell.settings
        assert (settings.rounds, settings.training.epochs, settings.exploration.epochs) == (1, 1, 1)
        assert settings.model.model_dump()["hidden"] == (4,)
        assert settings.data.train_samples == 200  # what it does not name stays


def test_what_is_written_loads_to_the_same_cells() -> None:
    small = loaded()
    again = resolve(Document.parse(to_yaml(small.written), "scenario.yaml"))
    assert [cell.key for cell in again.cells] == [cell.key for cell in small.cells]
    assert again.header.form == "small"
    full = loaded(small=False)
    again = resolve(Document.parse(to_yaml(full.written), "scenario.yaml"), small=True)
    assert [cell.key for cell in again.cells] == [cell.key for cell in small.cells]


def test_cells_do_not_know_of_it() -> None:
    bare = WRITTEN[: WRITTEN.index("small:")]
    full, without = loaded(small=False), loaded(text=bare, small=False)
    assert [cell.key for cell in full.cells] == [cell.key for cell in without.cells]
    assert not {"small", "form"} & without_newer(full.cells[0].config).keys()


def test_set_comes_after_it() -> None:
    assert {cell.settings.rounds for cell in loaded("rounds=3", "sweep.algorithm=[krum]").cells} == {3}
    assert len(loaded("sweep.algorithm=[krum]").cells) == 1


def test_a_tuning_stage_is_made_small_too() -> None:
    text = WRITTEN.replace(
        "small:", "tune: {axes: {training.lr: [0.1, 0.2, 0.4]}, seeds: [0, 1]}\nsmall:\n  tune.seeds: [0]"
    )
    full, small = loaded(text=text, small=False), loaded(text=text)
    assert full.tuning is not None
    assert small.tuning is not None
    assert (len(full.tuning.stage.cells), len(small.tuning.stage.cells)) == (18, 6)
    assert "small" not in full.tuning.stage.written


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  rounds: 1\n", "  rouns: 1\n", r"mine.yaml:13: unknown key 'rouns'.*rounds"),
        ("  rounds: 1\n", "  rounds: zero\n", r"mine.yaml:13: rounds"),
        (
            "  rounds: 1\n",
            "  name: other\n",
            r"mine.yaml:13: small: 'name' stays as it is in the small form; remove it",
        ),
        ("  rounds: 1\n", "  small.rounds: 1\n", r"mine.yaml:13: small: 'small.rounds' stays as it is"),
        ("  rounds: 1\n", "  algorithm: fedavg\n", r"mine.yaml:13: the sweep's axis 'algorithm' would overwrite it"),
        ("sweep.algorithm", "sweep.attack", r"mine.yaml:18: the sweep has no axis 'attack'"),
        ("  rounds: 1\n", "  rounds..: 1\n", r"mine.yaml:13: small: 'rounds\.\.' is no config path"),
    ],
)
def test_what_it_cannot_change(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        loaded(text=WRITTEN.replace(old, new))


def test_a_scenario_without_one_says_who_has() -> None:
    with pytest.raises(InputError, match=r"has no small form; give it `small:` .*table3_mnist"):
        load("noise_magnitude", small=True)
    with pytest.raises(
        InputError, match=r"mine.yaml:\d+: small: is \[1\]; write config paths and their values below it"
    ):
        loaded(text=WRITTEN[: WRITTEN.index("small:")] + "small: [1]\n")
    assert set(with_small_form()) >= {"table3_mnist", "table3_shakespeare"}


def test_sweep_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, the folder, the report; and the same from Python."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(WRITTEN)
    ran = CliRunner().invoke(app, ["sweep", "mine.yaml", "--small", "--workers", "1"])
    assert ran.exit_code == 0, ran.output
    folder = tmp_path / "runs" / "mine-small"
    assert len([*(folder / "cells").glob("*.json")]) == 2
    written = (folder / "scenario.yaml").read_text()
    assert "form: small" in written
    page = (folder / "report.html").read_text()
    assert "Small form of the scenario:" in page
    assert "numbers are not those of the full form" in " ".join(page.split())
    refused = CliRunner().invoke(app, ["sweep", "demo", "--small"])
    assert refused.exit_code == 2
    assert "has no small form" in refused.output
    results = af.run(str(tmp_path / "mine.yaml"), out=folder, small=True)
    assert results.reused == 2
