"""Secure sums in scenarios: what goes together, the same numbers as in the open, and a record of what was seen."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from secure_scenarios import SMALL, blocks_of, run

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.catalogue.entries import Catalogue
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.config.settings import content_hash
from autoflip_secure.scenarios.config.tables import AGGREGATORS
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.parties import PartyPool, exposed, party_pool
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig

BASE = """
clients: 6
cohort: 3
rounds: 3
partition: {kind: pathological, classes_per_client: 2}
seeds: [1, 2]
"""


def blocks(text: str = "", *overrides: str) -> tuple[Block, ...]:
    return blocks_of(BASE + text, *overrides)


@pytest.fixture(scope="module")
def pool() -> Iterator[PartyPool]:
    """Two parties and three, as a sweep over both starts them."""
    with party_pool(blocks("sweep: {product: {secure_sum: [none, {parties: 2}, {parties: 3}]}}")) as pool:
        yield pool


def by_sum(records: dict[str, RunRecord]) -> dict[tuple[str, int], dict[int, RunRecord]]:
    """(algorithm, seed) -> number of parties (0: in the open) -> record."""
    found: dict[tuple[str, int], dict[int, RunRecord]] = {}
    for record in records.values():
        parties = (record.config["secure_sum"] or {"parties": 0})["parties"]
        found.setdefault((record.algorithm, record.seed), {})[parties] = record
    return found


OWN = {"cell", "config", "axes", "secure_sum", "costs", "pipeline"}


def computed(record: RunRecord) -> dict[str, Any]:
    """The numbers of a record that do not say how they came about."""
    numbers = {key: value for key, value in record.numbers().items() if key not in OWN}
    numbers["rounds"] = [{**one, "bytes": None} for one in numbers["rounds"]]
    numbers["exploration"] = {**numbers["exploration"], "bytes": None}
    return numbers


@pytest.fixture(scope="module")
def explored(pool: PartyPool) -> dict[str, RunRecord]:
    axes = "algorithm: [autoflip, guidance_only], secure_sum: [none, {parties: 2}, {parties: 3}]"
    return run(blocks(f"sweep: {{product: {{{axes}}}}}"), pool)


def test_exploration_in_shares_gives_the_very_same_run(explored: dict[str, RunRecord]) -> None:
    """Guidance, masks, rounds, accuracy: bit for bit, with two parties and with three."""
    for found in by_sum(explored).values():
        assert computed(found[2]) == computed(found[0])
        assert computed(found[3]) == computed(found[0])
        assert found[0].layers != []
        assert found[0].secure_sum is None


def test_the_record_says_what_was_seen_and_what_it_cost(explored: dict[str, RunRecord]) -> None:
    record = by_sum(explored)[("autoflip", 1)][3]
    assert record.secure_sum is not None
    (phase,) = record.secure_sum.phases
    assert (record.secure_sum.parties, phase.phase, phase.batches, phase.rows) == (3, "exploration", 1, 6)
    assert 1 <= phase.sums <= 2
    assert phase.numbers_per_client == 7  # two scores, five checks
    shares = 6 * (8 * record.parameters + 2 * 32)  # in full to one party, as keys to the others
    assert shares < phase.client_bytes < shares + 6 * 3 * 300
    assert record.exploration is not None
    assert record.exploration.bytes.uplink_values == phase.client_bytes
    assert record.secure_sum.server_sees == [
        "deviations of the explorers: sums of them, and a few numbers about each",
        "updates: every one of them",
    ]
    assert phase.largest_error is not None
    assert 0 < phase.largest_error < 1e-9
    assert record.timing["secure_seconds"] > 0
    assert "seconds" not in str(record.numbers()["secure_sum"])
    assert record.secure_sum.links == "private sockets"
    assert "links" not in record.numbers()["secure_sum"], "where the parties were changes no number"


def test_workers_and_blocks_do_not_change_numbers(explored: dict[str, RunRecord], pool: PartyPool) -> None:
    axes = "sweep: {product: {algorithm: [guidance_only, autoflip], secure_sum: [{parties: 2}]}}"
    work = blocks_of(BASE + axes, block_cells=1)
    again = run(work, pool, workers=2)
    assert len(again) == 4
    for key, record in again.items():
        assert record.numbers() == {**explored[key].numbers(), "axes": record.numbers()["axes"]}


def test_updates_in_shares_give_the_same_mean(pool: PartyPool) -> None:
    """FedAvg, and a mean weighted with scores: the plain engine adds in float32, the ring is exact."""
    secret_updates = "{parties: 2, updates: true, sketch: null}"
    axes = f"algorithm: [fedavg, score_size], secure_sum: [none, {secret_updates}]"
    for (algorithm, _), found in by_sum(run(blocks(f"sweep: {{product: {{{axes}}}}}"), pool)).items():
        plain, secret = found[0], found[2]
        assert secret.final_accuracy == pytest.approx(plain.final_accuracy, abs=0.011)
        for one, other in zip(plain.rounds, secret.rounds, strict=True):
            assert one.participants == other.participants
            assert other.step_norm == pytest.approx(one.step_norm, rel=1e-4)
            assert other.trust == pytest.approx(one.trust, abs=1e-4)
        assert secret.secure_sum is not None
        updates = secret.secure_sum.phases[-1]
        assert (updates.phase, updates.batches, updates.rows, updates.sums) == ("updates", 3, 9, 3)
        assert (updates.numbers_per_client == 0) == (algorithm == "fedavg")
        assert updates.largest_error is not None
        assert updates.largest_error < (1e-9 if algorithm == "fedavg" else 1e-5)  # squares leave 25 bits below the norm
        assert any("secure sum" in step for step in secret.pipeline)


def test_clients_that_cannot_be_encoded_are_left_out_and_named(pool: PartyPool) -> None:
    """Noise of size 1e4 exceeds what an update may be; the run goes on without them."""
    work = blocks(
        "secure_sum: {parties: 2, updates: true}", "algorithm=fedavg", "seeds=[1]",
        "attack={kind: gaussian_noise, sigma: 10000, clients: [0, 1]}", "cohort=4", "partition=iid",
    )  # fmt: skip
    (record,) = run(work, pool).values()
    malicious = [k for one in record.rounds for k in one.participants if k in (0, 1)]
    assert malicious
    named = re.findall(r"client (\d) sent a value beyond \+-256: left out of the secure sum", str(record.events))
    assert [int(k) for k in named] == malicious
    for one in record.rounds:
        assert one.rejected == [k for k in one.participants if k in (0, 1)]
    assert record.final_accuracy > 0.15


def test_a_round_with_one_client_left_takes_no_step(pool: PartyPool) -> None:
    work = blocks(
        "secure_sum: {parties: 2, updates: true}", "algorithm=fedavg", "seeds=[1]", "clients=3", "cohort=2", "rounds=2",
        "partition=iid",        "attack={kind: gaussian_noise, sigma: 10000, clients: [0, 1]}",
    )  # fmt: skip
    (record,) = run(work, pool).values()
    alone = [one for one in record.rounds if len(one.participants) - len(one.rejected) < 2]
    assert alone
    assert all(one.step_norm == 0 for one in alone)
    assert "their sum would hide nothing" in str(record.events)


def test_noise_of_the_clients_and_a_secure_sum_hide_them_from_the_server(pool: PartyPool) -> None:
    noise = "privacy: {kind: client_level, noise: distributed, noise_multiplier: 1.0}\n"
    secret, plain = (
        next(iter(run(blocks(noise + text, "algorithm=fedavg", "seeds=[1]"), pool).values()))
        for text in ("secure_sum: {parties: 2, updates: true}", "")
    )
    assert secret.privacy is not None
    assert plain.privacy is not None
    seen = {name: record.privacy.epsilon("server") for name, record in (("secret", secret), ("plain", plain))}  # type: ignore[union-attr]
    assert seen["secret"] is not None
    assert seen["plain"] is not None
    assert seen["secret"] < seen["plain"]
    assert "a secure sum" in next(g.reason for g in secret.privacy.guarantees if g.observer == "server")


# ------------------------------------------------------------------------------------------------- what goes together


UPDATES = "secure_sum.updates=true"
CENTRAL = "privacy={kind: client_level, noise: central}"
APART, SEALED = "secure_sum.parties=[{host: a, port: 1}, {host: b, port: 1}]", "secure_sum.certificates=here"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["exploration.method=robust"], r"robust: needs every explorer's deviation.*set exploration\.method: linear"),
        (["algorithm=fedavg"], r"nothing would pass through the parties; set secure_sum\.updates: true"),
        (["algorithm=autoflip_plus"], r"its pruner budget looks at what single explorers sent"),
        ([UPDATES, "algorithm=median"], r"median cannot work with sums: 'median' needs every client's update"),
        ([UPDATES, "algorithm=krum"], r"the aggregator krum cannot work with sums"),
        ([UPDATES, "algorithm=threshold_radial"], r"the aggregator radial cannot .* use noise: norm"),
        ([UPDATES, "algorithm=score_sign"], r"the statistic 'sign' compares single updates"),
        ([UPDATES, "cohort=1"], r"cohort = 1: a sum over one client is its update"),
        (["exploration.explorers=1"], r"exploration\.explorers = 1: a sum over one explorer is its row"),
        ([UPDATES, "algorithm=guidance_only", CENTRAL], r"privacy\.noise = central: the server clips every update"),
        (["secure_sum.parties=1"], r"secure_sum\.parties = 1: should be 2 to 5 processes"),
        (["secure_sum.parties=6"], r"secure_sum\.parties = 6: should be 2 to 5 processes"),
        (["secure_sum.parties=[{host: a, port: 1}]"], r"should be 2 to 5 .* or a list of as many"),
        (["secure_sum.parties=[{host: a, port: 1}, {host: a, port: 1}]"], r"a:1 is given twice"),
        ([APART], r"secure_sum.*parties by address need certificates.*set certificates .* or allow_plaintext: true"),
        ([APART, SEALED, "secure_sum.allow_plaintext=true"], r"certificates do not go with allow_plaintext"),
        ([SEALED], r"certificates do not go with processes of this machine"),
        (["secure_sum.allow_plaintext=true"], r"allow_plaintext is for parties by address"),
        (["secure_sum.parties=[{host: a, port: 1}, {host: b, port: 70000}]"], r"70000.*less than or equal to 65535"),
        (["secure_sum.timeout=0"], r"secure_sum\.timeout = 0: should be greater than 0"),
        (
            ["secure_sum.scores=hidden"],
            r"^--set \S+=hidden: secure_sum\.scores = hidden: the key was removed, .*; leave it out",
        ),
        (["secure_sum={scores: revealed}"], r"secure_sum\.scores = revealed: the key was removed"),
        (["secure_sum.party=3"], r"unknown key 'party' in secure_sum"),
        (["secure_sum=3"], r"secure_sum = 3: should be a mapping"),
    ],
)
def test_what_cannot_be_is_refused_when_the_scenario_is_read(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        blocks("secure_sum: {parties: 2}\nalgorithm: autoflip", *overrides)


def test_where_the_parties_are_is_no_part_of_a_cell() -> None:
    def key(text: str) -> str:
        (cell,) = (cell for block in blocks(f"secure_sum: {text}", "seeds=[1]") for cell in block.cells)
        assert cell.key == content_hash(cell.config)
        return cell.key

    here = key("{parties: 2}")
    assert key("{parties: 2, timeout: 5}") == here
    assert key("{parties: [{host: a, port: 1}, {host: b, port: 1}], allow_plaintext: true}") == here
    assert key("{parties: [{host: a, port: 1}, {host: b, port: 1}], certificates: here}") == here
    assert key("{parties: 3}") != here
    assert key("{parties: 2, updates: true}") != here


def test_links_that_others_can_read_are_named() -> None:
    def said(rest: str) -> str | None:
        return exposed(blocks(f"secure_sum: {{parties: [{{host: 10.0.0.5, port: 2}}, {{host: b, port: 3}}], {rest}}}"))

    assert said("certificates: here") is exposed(blocks("secure_sum: {parties: 2}")) is None
    apart: dict[str, Any] = {"parties": [{"host": "a", "port": 1}, {"host": "b", "port": 1}]}
    assert SecureSumConfig(**apart, certificates="here").links == "mutual TLS"
    assert SecureSumConfig(**apart, allow_plaintext=True).links == "plaintext"
    found = said("allow_plaintext: true")
    assert found is not None
    assert (
        "10.0.0.5:2, b:3 are in plaintext, as allow_plaintext asks: anybody who reads them all reads every row" in found
    )


def test_none_is_the_default_and_can_be_said() -> None:
    said, unsaid = (blocks(text, "seeds=[1]")[0].cells[0] for text in ("secure_sum: none", ""))
    assert said.key == unsaid.key
    assert said.settings.secure_sum is None


def test_a_cell_with_parties_cannot_run_without_them() -> None:
    from autoflip_secure.federation.engine import run_cells

    (block,) = blocks("secure_sum: {parties: 2}", "seeds=[1]", "algorithm=autoflip")
    builder, (spec,) = CellBuilder(), block.cells
    trainer = builder.trainer(spec)
    with pytest.raises(InputError, match=r"no parties to connect to"):
        run_cells([builder.cell(spec, spec, trainer_device())], trainer)
    with pytest.raises(KeyError):
        run_block(block)


def trainer_device() -> Any:
    import torch

    return torch.device("cpu")


def test_every_aggregator_says_what_it_needs() -> None:
    listed = {name: one.summary for name, one in Catalogue.read().families["secure_sum"].items()}
    assert {name for name in listed if name.startswith("updates of ")} == {f"updates of {kind}" for kind in AGGREGATORS}
    assert set(SecureSumConfig.model_fields) < set(listed)
    assert all(listed.values())
    assert listed["updates of mean"] == "their weighted sum"
    assert listed["updates of krum"].startswith("every one of them")


def test_without_crypten_or_certificates_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(text: str) -> None:
        work = plan(resolve(Document.parse(f"{SMALL}{BASE}secure_sum: {text}", "s.yaml")))
        run_sweep(work, tmp_path / "out", 1, Listener(lambda *_: None, print))

    with pytest.raises(
        InputError, match=rf"there is no ca\.pem in {tmp_path}; autoflip-secure certificates creates it"
    ):
        begin(f"{{parties: [{{host: a, port: 1}}, {{host: b, port: 1}}], certificates: {tmp_path}}}")
    monkeypatch.setitem(sys.modules, "crypten", None)
    with pytest.raises(InputError, match=r"CrypTen is not installed; install it with: SKLEARN_ALLOW"):
        begin("{parties: 2}")
    assert list((tmp_path / "out").glob("cells/*")) == []
