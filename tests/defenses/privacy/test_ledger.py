"""The ledger: every release of a real schedule, what is proven, what is not and why, and what a killed run leaves."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import dp_accounting as dp
import forked
import pytest
import torch
from dp_accounting.rdp import RdpAccountant

from autoflip_secure.defenses.privacy.accountants import counted, prv_epsilon, rdp_epsilon
from autoflip_secure.defenses.privacy.guarantees import account, guarantee
from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.defenses.privacy.pld import pld_epsilon
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.records.privacy import Guarantee, PrivacyRecord, Release
from autoflip_secure.reports.study.privacy import ledger_rows, proven
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.store import read_record


def scenario(**settings: Any) -> LoadedScenario:
    base: dict[str, Any] = {
        "clients": 10, "cohort": 4, "rounds": 6, "seeds": [31], "model": {"kind": "mlp", "hidden": [8]},
        "training": {"batch_size": 16, "epochs": 2}, "exploration": {"epochs": 3}, "partition": "iid",
    }  # fmt: skip
    return resolve(Document("here", {**base, **settings}))


def cell_of(**settings: Any) -> Any:
    loaded = scenario(**settings)
    return CellBuilder().cell(loaded.cells[0], loaded.cells[0], torch.device("cpu"))


def by_observer(record: PrivacyRecord | None) -> dict[str, Guarantee]:
    assert record is not None
    return {g.observer: g for g in record.guarantees}


def test_sample_level_counts_every_step_of_every_participation_and_of_the_exploration() -> None:
    cell = cell_of(
        privacy={"kind": "sample_level", "noise_multiplier": 1.2}, attack={"kind": "gaussian_noise", "scope": 0.2}
    )
    both = by_observer(ledger(cell))
    assert both["server"].clients == both["public"].clients == both["another client"].clients
    assert {g.relation for g in both.values()} == {"zero out one sample"}
    malicious = set(cell.malicious_clients.nonzero().squeeze(1).tolist())
    assert {r.client for r in both["server"].releases} == set(range(10)) - malicious
    for found in both["server"].clients:
        n = len(cell.problem.clients[found.client])
        participations = sum(found.client in cell.cohort(t).tolist() for t in range(1, 7))
        steps = -(-n // 16) * (2 * participations + 3)
        oracle = RdpAccountant().compose(
            dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(16 / n, dp.GaussianDpEvent(1.2)), steps)
        )
        assert found.delta == pytest.approx(0.1 / n)
        assert found.rdp == pytest.approx(oracle.get_epsilon(0.1 / n), rel=1e-2)
        assert found.training is not None
        assert found.training < found.rdp
    worst = max(c.rdp for c in both["server"].clients if c.rdp is not None)
    assert both["server"].over_rounds[-1][1] == pytest.approx(worst, abs=2e-3)
    assert [r for r, _ in both["server"].over_rounds] == list(range(7))
    assert any(c.prv is not None and c.prv < worst for c in both["server"].clients)
    assert "agreement scores" in both["server"].releases[0].post_processing


def test_without_exploration_training_is_everything() -> None:
    for client in by_observer(ledger(cell_of(algorithm="fedavg", privacy="sample_level")))["public"].clients:
        assert client.training == client.epsilon


def test_a_target_is_kept_by_every_client() -> None:
    cell = cell_of(privacy={"kind": "sample_level", "target_epsilon": 3.0})
    assert len(set(cell.noise_multipliers)) > 1
    for client in by_observer(ledger(cell))["public"].clients:
        assert client.rdp is not None
        if client.rdp > 0:
            assert 2.9 < client.rdp <= 3.0


def three(found: list[Release], delta: float) -> list[float]:
    """Epsilon of some releases by every accountant."""
    count = counted(found)
    assert count is not None
    bounds = [accountant(count, delta) for accountant in (rdp_epsilon, prv_epsilon, pld_epsilon)]
    assert None not in bounds
    return [bound for bound in bounds if bound is not None]


@pytest.mark.parametrize("noise", [{"noise_multiplier": 2.0}, {"target_epsilon": 3.0}])
def test_the_largest_epsilon_is_that_of_the_tightest_accountant(noise: dict[str, float]) -> None:
    """Clients of 143 and 144 samples: none of them takes part in less of the same than another."""
    server = by_observer(ledger(cell_of(privacy={"kind": "sample_level", **noise})))["server"]
    tightest = []
    for client in server.clients:
        tightest.append(min(three([r for r in server.releases if r.client == client.client], client.delta)))
        assert client.epsilon is not None
        assert client.epsilon >= tightest[-1]
    assert max(c.epsilon or 0 for c in server.clients) == max(tightest)


CENTRAL = {"kind": "client_level", "noise_multiplier": 2.0}


def test_central_noise_is_amplified_for_the_public_and_no_protection_from_the_server() -> None:
    both = by_observer(ledger(cell_of(algorithm="fedavg", sampling="poisson", privacy=CENTRAL)))
    assert not both["server"].proven
    assert "trusted" in both["server"].reason
    assert [(r.mechanism, r.steps) for r in both["server"].releases] == [("none", 6)]
    (client,) = both["public"].clients
    oracle = RdpAccountant().compose(dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.4, dp.GaussianDpEvent(2.0)), 6))
    assert client.rdp == pytest.approx(oracle.get_epsilon(0.01), rel=5e-3)
    assert both["public"].relation == "add or remove one client"


def test_fixed_cohorts_are_about_replacing_a_client_with_twice_the_sensitivity() -> None:
    public = by_observer(ledger(cell_of(algorithm="fedavg", privacy=CENTRAL)))["public"]
    (release,) = public.releases
    assert (release.relation, release.sampling, release.noise_multiplier) == ("replace one client", "fixed", 1.0)
    poisson = by_observer(ledger(cell_of(algorithm="fedavg", sampling="poisson", privacy=CENTRAL)))["public"]
    numeric = public.clients[0].prv, public.clients[0].pld
    assert all(epsilon is not None and epsilon < 0.9 * (public.clients[0].rdp or 0) for epsilon in numeric)
    assert (public.clients[0].rdp or 0) > (poisson.clients[0].rdp or 0)


def test_distributed_noise_is_a_share_for_the_server_and_whole_for_the_public() -> None:
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 3.0}
    attack = {"kind": "gaussian_noise", "scope": 0.2}
    cell = cell_of(algorithm="fedavg", privacy=privacy, attack=attack)
    both = by_observer(ledger(cell))
    for release in both["server"].releases:
        participations = sum(release.client in cell.cohort(t).tolist() for t in range(1, 7))
        assert (release.steps, release.noise_multiplier) == (participations, 3.0 / sqrt(4))
        assert release.sampling == "none"
    honest = [4 - int(cell.malicious_clients[cell.cohort(t)].sum()) for t in range(1, 7)]
    found = {r.noise_multiplier for r in both["public"].releases}
    assert found <= {3.0 * sqrt(h / 4) for h in honest}
    assert both["public"].relation == "zero out one client"
    scoring = by_observer(ledger(cell_of(algorithm="agreement_only", privacy=privacy)))
    assert scoring["public"].clients == scoring["server"].clients  # what is made of rows is post-processing
    assert scoring["public"].releases[0].name == "exploration"


@pytest.mark.parametrize("algorithm", ["fedavg", "autoflip"])
def test_who_takes_part_in_more_of_the_same_pays_no_less(algorithm: str) -> None:
    """By the same accountant: PRV and PLD are asked for the client that pays most, and hold for those that pay less."""
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 6.0}
    server = by_observer(ledger(cell_of(algorithm=algorithm, rounds=12, privacy=privacy)))["server"]
    steps = {r.client: r.steps for r in server.releases if r.client is not None}
    most = max(steps.values())
    assert len(set(steps.values())) > 2
    worst = max(c.epsilon for c in server.clients if c.epsilon is not None)
    for client in server.clients:
        mine = [r for r in server.releases if r.client in (client.client, None)]
        bounds = three(mine, client.delta)
        assert client.epsilon is not None
        assert client.rdp == bounds[0]
        assert min(bounds) <= client.epsilon <= worst
        assert (client.epsilon == worst) >= (steps[client.client] == most)
        assert client.training is not None
        assert client.training >= min(three([r for r in mine if r.name == "updates"], client.delta))
    assert f"(client {min(k for k in steps if steps[k] == most)} pays most)" in proven(server)


def test_the_table_shows_what_every_client_pays_before_who_pays_most() -> None:
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 6.0}
    record = ledger(cell_of(algorithm="autoflip", rounds=12, privacy=privacy))
    assert record is not None
    rows, left_out = ledger_rows(record, most=3)
    server = [row for row in rows if "the server" in row["seen by"]]  # who sees the same shares the rows
    assert [row["release"] for row in server] == ["exploration", "updates", "updates"]
    assert int(server[1]["steps"]) >= int(server[2]["steps"])
    assert left_out == 1 + 10 - 3


def test_of_two_proofs_for_the_public_the_smaller_epsilon_counts() -> None:
    """Many clients and few rounds each: who takes part hides them better than zeroing out tells, and the reverse."""
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 3.0}
    schedule = schedule_of(cell_of(algorithm="fedavg", privacy=privacy))
    few = guarantee(schedule, "public")
    server = guarantee(replace(schedule, secure_sum=True), "server")
    assert few.relation == "zero out one client"
    assert few.clients[0].epsilon == server.clients[0].epsilon
    crowd = replace(
        schedule,
        samples=(10,) * 2000,
        honest=tuple(range(2000)),
        noise_multipliers=(3.0,) * 2000,
        rounds=((0, 1, 2, 3),) * 40,
        loyal=frozenset(range(2000)),
    )
    many = guarantee(crowd, "public")
    assert many.relation == "replace one client"
    assert {r.noise_multiplier for r in many.releases} == {1.5}
    epsilon, other = many.clients[0].epsilon, guarantee(replace(crowd, secure_sum=True), "server").clients[0].epsilon
    assert epsilon is not None
    assert other is not None
    assert epsilon < other


def poor_crowd() -> Any:
    """30 of 100 clients misbehave, and each honest one brings its noise."""
    return cell_of(
        algorithm="fedavg", clients=100, cohort=10, rounds=30,
        privacy={"kind": "client_level", "noise": "distributed", "noise_multiplier": 3.0},
        attack={"kind": "gaussian_noise", "scope": 0.3}, training={"batch_size": 4},
    )  # fmt: skip


def test_rounds_to_which_many_honest_clients_came_hide_each_of_them_less() -> None:
    """Noise that participants bring tells how many they are; the rate is that of so many honest ones, of the honest."""
    cell = poor_crowd()
    public, _ = releases(schedule_of(cell), "public")
    assert {(r.relation, r.sampling, r.population) for r in public} == {("replace one client", "fixed", 70)}
    came = [int((~cell.malicious_clients[cell.cohort(t)]).sum()) for t in range(1, 31)]
    expected = {(3.0 * sqrt(min(1, h / 10)) / 2, h / 70): came.count(h) for h in came if h}
    found: dict[tuple[float, float], int] = {}
    for r in public:
        found[r.noise_multiplier, r.rate] = found.get((r.noise_multiplier, r.rate), 0) + r.steps
    assert found == expected
    assert sum(found.values()) == sum(h > 0 for h in came)
    assert max(rate for _, rate in found) > 0.1 > min(rate for _, rate in found), "the cohort's rate is 0.1 throughout"


def test_given_their_number_honest_participants_are_a_sample_without_replacement() -> None:
    """One honest client is in h / honest of the rounds with h honest ones, and not in the cohort's rate of them."""
    cell = poor_crowd()
    honest = (~cell.malicious_clients).nonzero().squeeze(1)
    one = int(honest[0])
    came: dict[int, list[bool]] = {}
    for number in range(1, 6001):
        cohort = cell.cohort(number)
        here = int((~cell.malicious_clients[cohort]).sum())
        came.setdefault(here, []).append(one in cohort.tolist())
    many = {h: ins for h, ins in came.items() if len(ins) > 300}
    assert len(many) >= 4
    for h, ins in many.items():
        rate = h / len(honest)
        assert abs(sum(ins) / len(ins) - rate) < 4 * sqrt(rate * (1 - rate) / len(ins))


def test_when_everybody_who_is_honest_came_nobody_hides_among_them() -> None:
    """Four of 2,000 are honest, and all came every time: what is public is a Gaussian mechanism, not amplified."""
    schedule = schedule_of(cell_of(algorithm="fedavg", privacy={**CENTRAL, "noise": "distributed"}))
    few = replace(
        schedule, samples=(10,) * 2000, noise_multipliers=(2.0,) * 2000, honest=(0, 1, 2, 3), loyal=frozenset(range(4)),
        rounds=((0, 1, 2, 3),) * 6, delta=0.01,
    )  # fmt: skip
    client = guarantee(few, "public").clients[0]
    exact = RdpAccountant().compose(dp.SelfComposedDpEvent(dp.GaussianDpEvent(2.0), 6)).get_epsilon(0.01)
    assert client.rdp == pytest.approx(exact, rel=5e-3)
    nobody = replace(few, rounds=((7, 8),) * 6)
    assert releases(nobody, "public")[0] == []


def test_explorers_who_bring_noise_cannot_be_added_or_removed_unseen() -> None:
    both = cell_of(algorithm="guidance_only", sampling="poisson", privacy=CENTRAL)
    public = by_observer(ledger(both))["public"]
    assert [(r.name, r.relation, r.noise_multiplier) for r in public.releases] == [
        ("exploration", "zero out one client", 2.0),
        ("updates", "zero out one client", 2.0),
    ]


def test_a_secure_sum_shows_the_server_the_noise_of_the_honest() -> None:
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 3.0}
    cell = cell_of(algorithm="fedavg", privacy=privacy, attack={"kind": "gaussian_noise", "scope": 0.2})
    seen, _ = releases(replace(schedule_of(cell), secure_sum=True), "server")
    assert {r.noise_multiplier for r in seen} <= {3.0 * sqrt(h / 4) for h in range(1, 5)}
    rows, _ = releases(schedule_of(cell), "server")
    assert max(r.noise_multiplier for r in rows) < min(r.noise_multiplier for r in seen)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"algorithm": "autoflip", "privacy": CENTRAL}, "sensitivity is not the clip norm"),
        ({"algorithm": "median", "privacy": CENTRAL}, "sensitivity is not the clip norm"),
        (
            {"privacy": {"kind": "sample_level", "noise_multiplier": 1.0}, "exploration": {"patience": 2}},
            "exploration.patience",
        ),
        (
            {"algorithm": "guidance_only", "privacy": {**CENTRAL, "exploration_noise_multiplier": 0}},
            "exploration_noise_multiplier = 0",
        ),
    ],
)
def test_where_nothing_is_proven_it_is_refused_or_marked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(plan(scenario(**settings)).blocks)
    allowed = {**settings, "privacy": {**settings["privacy"], "allow_unproven": True}}
    check(plan(scenario(**allowed)).blocks)
    public = by_observer(ledger(cell_of(**allowed)))["public"]
    assert not public.proven
    assert said in public.reason
    assert public.clients == []
    assert all(said in r.reason for r in public.releases)
    record = ledger(cell_of(**allowed))
    assert record is not None
    assert record.epsilon("public") is None


def test_clipping_alone_proves_nothing_and_may_run() -> None:
    settings = {"algorithm": "fedavg", "privacy": {"kind": "sample_level", "noise_multiplier": 0}}
    check(plan(scenario(**settings)).blocks)
    assert "clipping alone proves nothing" in by_observer(ledger(cell_of(**settings)))["public"].reason


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"privacy": {"kind": "sample_level", "delta": 0.01}}, r"is not below 1/n"),
        ({"privacy": "sample_level", "training": {"batch_size": 200}}, r"batch rate would be 1\.3\d, over 1"),
        ({"privacy": {"kind": "sample_level", "target_epsilon": 1e-6}}, "cannot be reached"),
    ],
)
def test_what_the_data_do_not_allow_is_one_clear_sentence(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(plan(scenario(**settings)).blocks)


def test_a_forgotten_release_shows() -> None:
    """The planted bug of others: a ledger that leaves the exploration out says less than the ledger that counts it."""
    schedule = schedule_of(cell_of(privacy={"kind": "sample_level", "noise_multiplier": 1.0}))
    whole, forgotten = account(schedule), account(replace(schedule, explorers=()))
    assert (whole.epsilon() or 0) > 1.05 * (forgotten.epsilon() or 0)


def quiet() -> Listener:
    return Listener(lambda *_: None, lambda text: None)


def test_the_ledger_is_written_before_the_run_and_counts_attempts(tmp_path: Path) -> None:
    """A process is killed in the middle of training; the ledger is there, and the second attempt is counted."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "clients: 6\ncohort: 3\nrounds: 4000\nseeds: [31]\nalgorithm: fedavg\n"
        "privacy: {kind: sample_level, noise_multiplier: 1.0}\n",
        encoding="utf-8",
    )
    process = forked.start("sweep", path, "--out", "out", "--no-report", cwd=tmp_path)
    files: list[Path] = []
    for _ in range(600):
        files = list((tmp_path / "out" / "ledger").glob("*.json"))
        if files:
            break
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.communicate()
    (file,) = files
    assert not list((tmp_path / "out" / "cells").glob("*.json"))
    document = json.loads(file.read_text())
    assert len(document["attempts"]) == 1
    steps = sum(r["steps"] for r in document["attempts"][0]["planned"] if r["observer"] == "server")
    assert steps > 4000


def test_other_versions_count_again(tmp_path: Path) -> None:
    loaded = plan(scenario(algorithm="fedavg", rounds=2, privacy={"kind": "sample_level", "noise_multiplier": 1.0}))
    first = run_sweep(loaded, tmp_path, 1, quiet()).records[0]
    (file,), (cell,) = (tmp_path / "ledger").glob("*.json"), (tmp_path / "cells").glob("*.json")
    cell.unlink()
    second = run_sweep(loaded, tmp_path, 1, quiet()).records[0]
    assert second.privacy is not None
    assert first.privacy is not None
    assert second.privacy.attempts == 2
    assert second.numbers() == first.numbers()  # the same release once more
    document = json.loads(file.read_text())
    document["attempts"][0]["versions"]["torch"] = "1.0"
    del document["checksum"]
    file.write_text(json.dumps(document))
    cell.unlink()
    third = run_sweep(loaded, tmp_path, 1, quiet()).records[0]
    assert third.privacy is not None
    assert third.privacy.attempts == 3

    def steps(record: PrivacyRecord) -> int:
        found: list[Release] = record.guarantees[0].releases
        return sum(r.steps for r in found)

    assert steps(third.privacy) == 2 * steps(first.privacy)
    assert (third.privacy.epsilon() or 0) > (first.privacy.epsilon() or 0)
    file.write_text("{")
    cell.unlink()
    with pytest.raises(StoreError, match="cannot be counted"):
        run_sweep(loaded, tmp_path, 1, quiet())


def test_a_finished_cell_that_is_run_again_with_its_block_counts_again(tmp_path: Path) -> None:
    private = {"kind": "sample_level", "noise_multiplier": 1.0}
    loaded = plan(scenario(algorithm="fedavg", rounds=2, seeds=[31, 32], privacy=private))
    assert len(loaded.blocks) == 1
    before = run_sweep(loaded, tmp_path, 1, quiet()).records
    for path in (tmp_path / "ledger").glob("*.json"):
        document = json.loads(path.read_text())
        document["attempts"][0]["versions"]["torch"] = "1.0"
        del document["checksum"]
        path.write_text(json.dumps(document))
    (tmp_path / "cells" / f"{before[1].cell}.json").unlink()
    run_sweep(loaded, tmp_path, 1, quiet())
    for old in before:
        new = read_record(tmp_path / "cells" / f"{old.cell}.json")
        assert new.rounds == old.rounds
        assert new.privacy is not None
        assert old.privacy is not None
        assert (new.privacy.attempts, old.privacy.attempts) == (2, 1)
        assert (new.privacy.epsilon() or 0) > (old.privacy.epsilon() or 0)


def test_a_ledger_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    loaded = plan(scenario(algorithm="fedavg", rounds=2, privacy={"kind": "sample_level", "noise_multiplier": 1.0}))
    (tmp_path / "ledger").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        run_sweep(loaded, tmp_path, 1, quiet())
    assert not list((tmp_path / "cells").glob("*.json"))


def test_counting_puts_equal_releases_together() -> None:
    found, _ = releases(schedule_of(cell_of(privacy={"kind": "sample_level", "noise_multiplier": 1.0})), "server")
    count = counted(r for r in found if r.client == found[0].client)
    assert count is not None
    assert len(count) == 1
    assert (rdp_epsilon(count, 1e-3) or 0) > 0
