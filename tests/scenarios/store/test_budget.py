"""What several runs cost together: the sum of their ledgers, counted once each, and never less than any of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from cli_audits import command

from autoflip_secure.commands.report import _budgets
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.checksums import with_checksum
from autoflip_secure.records.budget import Budget, BudgetLine
from autoflip_secure.records.privacy import OBSERVERS, Observer, Release
from autoflip_secure.reports.tables.clients import client_table
from autoflip_secure.reports.tables.text import as_csv
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.budget import budgets, clients
from autoflip_secure.scenarios.store.ledgers import ledger_file
from autoflip_secure.scenarios.store.reading import read_record


def quiet() -> Listener:
    return Listener(lambda *_: None, lambda text: None)


def planned(*privacy: Any, seeds: Sequence[int] = (31,), **more: Any) -> Plan:
    base: dict[str, Any] = {
        "clients": 6, "cohort": 3, "rounds": 2, "seeds": list(seeds), "model": {"kind": "mlp", "hidden": [8]},
        "training": {"batch_size": 16, "epochs": 1}, "algorithm": "fedavg",
        "sweep": {"product": {"privacy": list(privacy)}}, **more,
    }  # fmt: skip
    return plan(resolve(Document("here", base)))


def sample_level(target: float) -> dict[str, Any]:
    return {"kind": "sample_level", "clip": 1.0, "target_epsilon": target}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two private cells and one without privacy; never change it."""
    folder = tmp_path_factory.mktemp("swept") / "run"
    run_sweep(planned(sample_level(2), sample_level(4), "none"), folder, 1, quiet())
    return folder


def of(found: Budget, observer: Observer = "server") -> BudgetLine:
    (line,) = (line for line in found.lines if line.observer == observer)
    return line


def test_a_sweep_costs_more_than_its_dearest_cell_and_less_than_the_sum_of_all(swept: Path) -> None:
    (found,) = budgets([swept])
    records = [read_record(path) for path in sorted((swept / "cells").glob("*.json"))]
    alone = sorted(e for r in records if r.privacy and (e := r.privacy.epsilon("server")))
    assert (found.cells, found.bare, found.divisions) == (2, 1, 1)
    together = of(found).epsilon
    assert together is not None
    assert alone[-1] < together < sum(alone)
    assert 3 <= len(of(found).clients) <= 6  # whoever took part


def test_a_delta_at_which_everything_could_be_published_is_refused(swept: Path) -> None:
    sizes = [r.population or 0 for r in next(iter(_planned(swept)))]
    refused, taken = 1 / max(sizes), 0.99 / max(sizes)
    for count in (budgets, clients):
        with pytest.raises(InputError, match=rf"--delta = .* is not below 1/{max(sizes)}, and a client has .* samples"):
            count([swept], refused)
    assert [found.delta for found in budgets([swept], taken)] == [taken]


def _planned(folder: Path) -> list[list[Release]]:
    documents = [json.loads(path.read_text()) for path in sorted((folder / "ledger").glob("*.json"))]
    return [[Release.model_validate(one) for one in document["attempts"][0]["planned"]] for document in documents]


def test_every_client_has_a_line_with_what_it_released(swept: Path, tmp_path: Path) -> None:
    """Its epsilon is that of the sum; where the data are divided in two ways, each has clients of its own."""
    lines = clients([swept])
    (found,) = budgets([swept])
    assert {line.division[:8] for line in lines} == {"seed 31,"}
    for observer in OBSERVERS:
        own = [line for line in lines if line.observer == observer]
        assert [(int(line.client), line.epsilon) for line in own] == of(found, observer).clients
        assert all(line.runs == 2 and line.releases > 0 and "noise" in line.released for line in own)
    run_sweep(planned(sample_level(2), seeds=[32]), tmp_path / "more", 1, quiet())
    both = clients([swept, tmp_path / "more"], found.delta)
    assert len({line.division for line in both}) == 2
    assert [line for line in both if line.division == lines[0].division] == lines
    table = as_csv(client_table(both))
    assert table.count("\n") == len(both) + 1


def test_a_copy_of_the_folder_is_the_same_release_and_another_seed_is_not(swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept, tmp_path / "copy")
    assert budgets([swept, tmp_path / "copy"]) == budgets([swept])
    attack = {"kind": "label_flip", "scope": 0.2}
    run_sweep(planned(sample_level(2), seeds=[32], attack=attack), tmp_path / "more", 1, quiet())
    (found,) = budgets([swept, tmp_path / "more"])
    assert (found.cells, found.divisions) == (3, 2)
    assert any("malicious clients" in note for note in found.notes)
    (before,) = budgets([swept], found.delta)
    assert (of(found).epsilon or 0) > (of(before).epsilon or 0)


def test_one_file_under_two_paths_may_be_the_same_people_and_the_budgets_say_so(swept: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("one.npz", "two.npz"):
        x, y = rng.random((240, 4), dtype=np.float32), np.arange(240) % 3
        np.savez(tmp_path / name, x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
        data = {"kind": "npz", "path": str(tmp_path / name)}
        run_sweep(planned(sample_level(2), data=data), tmp_path / name.removesuffix(".npz"), 1, quiet())
    found = budgets([tmp_path / "one", tmp_path / "two"])
    assert len(found) == 2
    for own, other in (found, found[::-1]):
        (note,) = (note for note in own.notes if "told apart by kind and path" in note)
        assert other.data in note
        assert own.data not in note
    assert not any("told apart" in note for one in budgets([tmp_path / "one"]) for note in one.notes)


def test_the_seeds_that_a_gate_ran_besides_are_counted_with_their_sweep(swept: Path, tmp_path: Path) -> None:
    """Naming them too changes nothing."""
    folder = tmp_path / "run"
    shutil.copytree(swept, folder)
    run_sweep(planned(sample_level(2), seeds=[32]), folder / "more_seeds", 1, quiet())
    assert budgets([folder]) == budgets([swept, folder / "more_seeds"]) == budgets([folder, folder / "more_seeds"])
    assert [found.cells for found in budgets([folder])] == [3]
    assert len({line.division for line in clients([folder])}) == 2


def test_an_attempt_that_was_broken_off_counts_and_so_does_one_under_other_conditions(
    swept: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(swept, folder)
    (before,) = budgets([folder])
    key = next(r.cell for r in map(read_record, (folder / "cells").glob("*.json")) if r.privacy)
    (folder / "cells" / f"{key}.json").unlink()  # begun, and never finished
    assert budgets([folder]) == [before]
    path = ledger_file(folder, key)
    document = json.loads(path.read_text())
    other = json.loads(json.dumps(document["attempts"][0]))
    other["versions"]["torch"] = "1.0"
    document["attempts"].insert(0, other)
    path.write_text(json.dumps(with_checksum({k: v for k, v in document.items() if k != "checksum"})))
    (after,) = budgets([folder])
    assert of(after).attempts == of(before).attempts + 1
    assert (of(after).epsilon or 0) > (of(before).epsilon or 0)
    path.unlink()
    (less,) = budgets([folder])
    assert less.cells == 1  # neither ledger nor record: nothing tells of it here, the sweep and the report do
    shutil.rmtree(folder / "ledger")
    (without,) = budgets([folder])
    assert any("is missing" in note for note in without.notes)


def test_a_ledger_of_the_first_edition_is_read(swept: Path, tmp_path: Path) -> None:
    """It had one list of releases for all attempts."""
    folder = tmp_path / "run"
    shutil.copytree(swept, folder)
    for path in (folder / "ledger").glob("*.json"):
        document = json.loads(path.read_text())
        document["planned"] = document["attempts"][0].pop("planned")
        del document["checksum"]
        path.write_text(json.dumps(document))
    assert budgets([folder]) == budgets([swept])


def test_what_cannot_be_counted_is_one_sentence(swept: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        budgets([tmp_path / "nowhere"])
    folder = tmp_path / "run"
    shutil.copytree(swept, folder)
    next((folder / "ledger").glob("*.json")).write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        budgets([folder])
    shutil.rmtree(folder / "ledger")
    shutil.rmtree(folder / "cells")
    with pytest.raises(InputError, match="nothing was released"):
        budgets([folder])


def test_a_report_does_without_a_budget_that_cannot_be_made(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scenario in the folder is another one: nothing of its cells was begun."""
    folder = tmp_path / "run"
    shutil.copytree(swept, folder)
    text = (folder / "scenario.yaml").read_text()
    (folder / "scenario.yaml").write_text(text.replace("rounds: 2", "rounds: 3"))
    records = [read_record(path) for path in (folder / "cells").glob("*.json")]
    assert _budgets(folder, records) == []
    assert "no privacy budget in the report" in capsys.readouterr().err


def test_the_command_says_it(swept: Path) -> None:
    done = forked.run("budget", swept, "--delta", "1e-5", cwd=swept.parent)
    assert done.returncode == 0, done.stderr
    assert "2 private cells begun, δ = 1e-05" in done.stdout
    assert "no guarantee at all" in done.stdout
    as_data = json.loads(forked.run("budget", swept, "--json", cwd=swept.parent).stdout)
    assert as_data["budgets"] == [json.loads(one.model_dump_json()) for one in budgets([swept])]
    assert forked.run("budget", swept, "--delta", "2", cwd=swept.parent).returncode == 2


def test_the_command_writes_a_table_of_clients_and_a_page_to_sign(swept: Path, tmp_path: Path) -> None:
    again = command("budget", swept, "--clients", "clients.csv", "--out", "page.html", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    page = (tmp_path / "page.html").read_text()
    assert "1 cell ran on these data without privacy: for whoever saw what they released there is no guarantee" in page
    assert "What is not covered" in page
    assert (tmp_path / "clients.csv").read_text().startswith("data,division,client,observer")
    for wrong in (("--out", "page.pdf"), ("--clients", "clients"), ("--out", swept / "report.html")):
        told = command("budget", swept, *map(str, wrong), folder=tmp_path)
        assert told.returncode == 2
        assert "Traceback" not in told.stderr
