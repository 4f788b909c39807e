"""What several runs cost together: the sum of their ledgers, counted once each, and never less than any of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
from cli_audits import command
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from sizes import sized

from autoflip_secure.commands.report import _budgets
from autoflip_secure.defenses.privacy.budget import Spent, budget_lines, client_lines
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.checksums import with_checksum
from autoflip_secure.records.budget import Budget, BudgetLine
from autoflip_secure.records.privacy import OBSERVERS, Observer, Release
from autoflip_secure.reports.tables.clients import client_table
from autoflip_secure.reports.tables.text import as_csv
from autoflip_secure.reports.wording.budget import remarks, rows, sentences
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.budget import budgets, clients
from autoflip_secure.scenarios.store.ledgers import ledger_file
from autoflip_secure.scenarios.store.reading import read_record

DELTA = 1e-5


def release(client: int | None, sigma: float, rate: float = 1.0, steps: int = 1, **more: Any) -> Release:
    base: dict[str, Any] = {
        "name": "updates", "observer": "server", "client": client, "first_round": 1, "last_round": 1,
        "mechanism": "gaussian", "relation": "zero out one client", "sampling": "none" if rate == 1 else "poisson",
        "rate": rate, "population": 100, "steps": steps, "noise_multiplier": sigma, "reason": "", "post_processing": [],
    }  # fmt: skip
    return Release.model_validate({**base, **more})


def spent(division: str, *releases: Release) -> Spent:
    return Spent(division, "client", (releases,))


def server(cells: Sequence[Spent], delta: float = DELTA) -> BudgetLine:
    (line,) = (line for line in budget_lines(cells, delta) if line.observer == "server")
    return line


def by_opacus(*parts: tuple[float, float, int]) -> float:
    """Epsilon of (sigma, rate, steps), composed by Rényi accounting at Opacus's own orders."""
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64)) + [96, 128, 192, 256, 384, 512]
    total = sum(compute_rdp(q=q, noise_multiplier=s, steps=n, orders=orders) for s, q, n in parts)
    return float(get_privacy_spent(orders=orders, rdp=total, delta=DELTA)[0])


def test_cells_that_divide_the_data_alike_add_up_client_by_client() -> None:
    one = spent("a", release(0, 4.0, steps=5), release(1, 4.0, steps=1))
    other = spent("a", release(0, 8.0, steps=2), release(1, 2.0, steps=3))
    line = server([one, other])
    expected = {0: by_opacus((4.0, 1.0, 5), (8.0, 1.0, 2)), 1: by_opacus((4.0, 1.0, 1), (2.0, 1.0, 3))}
    for client, epsilon in line.clients:  # PRV is tighter than Rényi accounting, by less than a tenth here
        assert 0.88 * expected[client] < epsilon < 1.01 * expected[client]
    assert line.epsilon == max(epsilon for _, epsilon in line.clients)
    assert line.cells == 2


def test_under_other_divisions_somebody_may_pay_most_in_each() -> None:
    """Client 0 pays most in the first, client 1 in the second: one person may have been both."""
    one = spent("a", release(0, 2.0, steps=5), release(1, 9.0))
    other = spent("b", release(0, 9.0), release(1, 2.0, steps=5))
    assert server([one, other]).epsilon == pytest.approx(by_opacus((2.0, 1.0, 10)), rel=0.02)
    assert not server([one, other]).clients
    alike = server([one, spent("a", *other.attempts[0])]).epsilon
    assert alike is not None
    assert alike < 0.8 * by_opacus((2.0, 1.0, 10))


def test_whoever_is_not_named_pays_too() -> None:
    line = server([spent("a", release(None, 3.0, steps=2)), spent("b", release(None, 3.0, 0.1, steps=4))])
    bound = by_opacus((3.0, 1.0, 2), (3.0, 0.1, 4))
    assert line.epsilon is not None
    assert 0.85 * bound < line.epsilon < 1.01 * bound


ROWS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([1.0, 3.0]), st.integers(1, 9)), min_size=1, max_size=3)
CELLS = st.lists(st.tuples(st.sampled_from("ab"), ROWS), min_size=1, max_size=4)


@given(CELLS)
@settings(max_examples=sized(5, 20), deadline=None)
def test_the_sum_is_no_less_than_any_part_of_it(cells: list[tuple[str, list[tuple[int, float, int]]]]) -> None:
    made = [spent(division, *(release(k, s, steps=n) for k, s, n in found)) for division, found in cells]
    whole = server(made).epsilon
    assert whole is not None
    for part in (made[1:], made[:-1]):
        if part:
            assert (server(part).epsilon or 0) <= whole * 1.02 + 0.02  # PRV's error where it is asked


def test_no_guarantee_in_one_cell_is_none_for_all() -> None:
    bare = spent("a", release(None, 0.0, mechanism="none", reason="the server is trusted"))
    line = server([spent("a", release(None, 3.0)), bare])
    assert (line.epsilon, line.reason) == (None, "the server is trusted")
    unbounded = server([spent("a", release(None, 0.0, mechanism="none")), spent("b", release(None, 3.0))])
    assert unbounded.epsilon is None


def test_other_neighbours_are_another_line() -> None:
    samples = Spent("a", "sample", ((release(0, 3.0, relation="replace one client"),),))
    lines = [line for line in budget_lines([spent("a", release(0, 3.0)), samples], DELTA) if line.observer == "server"]
    assert len(lines) == 2
    found = Budget(data="d", delta=DELTA, cells=2, bare=1, divisions=2, lines=lines, notes=[])
    assert [key for key in ("no bound", "divided", "do not add up") if any(key in r for r in remarks(found))]
    assert len(remarks(found)) == 3
    assert all("δ = 1e-05" in row["everything together"] for row in rows(found))
    assert "ε ≤" in sentences(found)[1]


def test_attempts_whose_proofs_are_about_other_neighbours_are_other_lines() -> None:
    """What counts a client's every participation does not bound what is released when another takes its place."""
    first, again = (release(0, 3.0, steps=4),), (release(None, 2.0, rate=0.4, steps=6, relation="replace one client"),)
    lines = {line.relation: line for line in budget_lines([Spent("a", "client", (first, again))], DELTA)}
    alone = [server([Spent("a", "client", (one,))]) for one in (first, again)]
    assert [lines[one.relation] for one in alone] == alone
    assert {line.attempts for line in lines.values()} == {1}
    assert {(line.relation, line.releases) for line in client_lines([Spent("a", "client", (first, again))], DELTA, "d")
            } == {("zero out one client", 4), ("replace one client", 6)}  # fmt: skip


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


def test_no_guarantee_is_a_line_without_a_number() -> None:
    bare = spent("a", release(None, 0.0, mechanism="none", reason="the server is trusted"))
    (line,) = client_lines([bare, spent("a", release(None, 3.0))], DELTA, "digits")
    assert (line.client, line.epsilon, line.reason) == ("every", None, "the server is trusted")
    named = client_lines([spent("a", release(None, 3.0), release(4, 3.0))], DELTA, "digits")
    assert [(one.client, one.releases) for one in named] == [("4", 2), ("any other", 1)]


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
    with pytest.raises(StoreError, match="not a results folder"):
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
