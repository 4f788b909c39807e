"""Who sees what: derived from the protocol, and on the server's side of a secure run nothing else is used."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from frozen_networks import CLIENTS, cells, network, problem
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.algorithm.guidance import evolve, initial_guidance
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel, SampleLevel
from autoflip_secure.errors import InputError
from autoflip_secure.federation import arriving, server
from autoflip_secure.federation.cell import Cell, Protocol
from autoflip_secure.federation.server import begin, finish_round
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.visibility import Visibility, least, pipeline_of
from autoflip_secure.interfaces import Exploration
from autoflip_secure.pruning.none import NoPruning
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.records.pipeline import PIPELINE
from autoflip_secure.secure_rows.own_parties import OwnParties, OwnRows
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig

OPEN, HALF = None, SecureSumConfig(parties=2)
SECRET = SecureSumConfig(parties=2, updates=True)
SCORED = AgreementWeighted(statistics=("profile", "size", "direction"))
CENTRAL, SHARED = (ClientLevel(noise=noise, noise_multiplier=1.0, clip=1.0) for noise in ("central", "distributed"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("aggregator", "parties", "privacy", "expected"),
    [  # server, explored, guidance, noise
        (Mean(), OPEN, None, ("rows", "nothing", "rows", "none")),
        (SCORED, OPEN, None, ("rows", "rows", "rows", "none")),
        (SCORED, HALF, None, ("rows", "numbers", "rows", "none")),
        (SCORED, SECRET, None, ("numbers", "numbers", "step", "none")),
        (Mean(), SECRET, None, ("sums", "nothing", "step", "none")),
        (Mean(), SECRET, SHARED, ("sums", "nothing", "step", "distributed")),
        (Mean(), OPEN, SHARED, ("rows", "nothing", "step", "distributed")),
        (SCORED, OPEN, SHARED, ("rows", "rows", "rows", "distributed")),
        (SCORED, OPEN, CENTRAL, ("rows", "rows", "step", "central")),
        (Mean(), OPEN, SampleLevel(noise_multiplier=1.0), ("rows", "nothing", "rows", "samples")),
    ],
)  # fmt: skip
def test_it_follows_from_the_protocol(aggregator: Any, parties: Any, privacy: Any, expected: tuple[str, ...]) -> None:
    extra = {} if privacy is None else {"privacy": privacy}
    protocol = Protocol(pruner=NoPruning(), aggregator=aggregator, secure_sum=parties, **extra)
    found = protocol.visibility
    assert (found.server, found.explored, found.guidance, found.noise) == expected
    assert found.updates("server") == expected[0]
    assert found.updates("public") == found.updates("another client") == "step"
    assert found.updates("party") == ("shares" if parties is SECRET else "nothing")
    text = pipeline_of(protocol)
    assert ("secure sum" in str(text)) == (parties is SECRET)
    assert ("evolve guidance" in text) == (expected[2] == "rows")
    if expected == ("rows", "rows", "rows", "none"):
        assert text == list(PIPELINE)


def test_what_an_aggregator_needs_at_least() -> None:
    assert [least(a) for a in (Mean(), SCORED, RadialAgreement(noise="norm"))] == ["sums", "numbers", "numbers"]
    assert [least(a) for a in (Median(), RadialAgreement(), AgreementWeighted(statistics=("sign",)))] == ["rows"] * 3


def test_nobody_who_needs_rows_is_taken_for_one_that_may_see_them() -> None:
    protocol = Protocol(pruner=NoPruning(), aggregator=Median(), secure_sum=SECRET)
    with pytest.raises(InputError, match=r"secure_sum\.updates = true: 'median' needs every client's update"):
        assert protocol.visibility


def test_guidance_cannot_see_what_the_server_does_not() -> None:
    with pytest.raises(AssertionError, match="guidance would see"):
        Visibility("numbers", "numbers", "rows", "none")


class Exchanged(OwnParties):
    """Parties to which other rows come than the clients of this process have."""

    def __init__(self, rows: Tensor | None = None) -> None:
        self.given, self.came = rows, list[Tensor]()

    def share(self, rows: Tensor, clients: tuple[int, ...]) -> OwnRows:
        self.came.append(rows)
        return OwnRows(rows if self.given is None else self.given, clients)


def secret_cell(aggregator: Any) -> Cell:
    linear = ExplorationConfig(epochs=1, method="linear")
    own = {"aggregator": aggregator, "exploration": linear, "pruner": ThresholdMask(threshold=0.2)}
    return cells(problem(network()), own | {"secure_sum": SECRET})[0]


def started(cell: Cell) -> ServerState:
    nobody, size = torch.zeros(0), cell.problem.layout.size
    energy = torch.rand(size, generator=torch.Generator().manual_seed(9)) ** 4
    found = Exploration(nobody.long(), nobody, torch.zeros(0, size), energy, nobody, nobody.bool())
    return begin(cell, found)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(*(x.nan_to_num(7.0) if x.is_floating_point() else x for x in (one, other)))
    if is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, dict):
        return all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


def after_an_exchange(cell: Cell) -> tuple[ServerState, ServerState]:
    """The server's next state when rows B are shared by clients that have them, and by clients that have rows A."""
    state, clients = started(cell), torch.arange(CLIENTS)
    source = torch.Generator().manual_seed(4)
    a, b = (0.01 * torch.randn(CLIENTS, cell.problem.layout.size, generator=source) for _ in range(2))
    honest = Exchanged()
    expected, _ = finish_round(cell, state, clients, b, honest)
    (came,) = honest.came
    found, outcome = finish_round(cell, state, clients, a, Exchanged(came))
    assert torch.equal(outcome.sent, torch.where(state.mask, a, 0.0)), "the record is the experimenter's"
    return expected, found


@pytest.mark.parametrize("aggregator", [Mean(), SCORED, RadialAgreement(noise="norm")], ids=lambda one: one.kind)
def test_the_next_state_follows_from_what_the_parties_reveal(aggregator: Any) -> None:
    """Not from rows that this process happens to know: exchanged behind its back, they change everything or nothing."""
    expected, found = after_an_exchange(secret_cell(aggregator))
    assert float((expected.weights - started(secret_cell(aggregator)).weights).abs().max()) > 0
    assert same(expected, found)


def test_guidance_that_learns_from_rows_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug: what the previous test is good for."""
    inner, known = server._evolve, list[Tensor]()
    real = arriving.attack_updates

    def attack(*args: Any) -> Any:
        found = real(*args)
        known.append(found.rows)
        return found

    def peeks(cell: Any, guidance: Any, rows: Any, step: Tensor, decision: Any) -> Any:
        assert rows is None, "finish_round hands over no rows"
        return evolve(guidance, known[-1], decision.trust, cell.protocol.guidance.beta)

    monkeypatch.setattr(arriving, "attack_updates", attack)
    monkeypatch.setattr(server, "_evolve", peeks)
    expected, found = after_an_exchange(secret_cell(SCORED))
    assert not same(expected, found)
    monkeypatch.setattr(server, "_evolve", inner)
    assert same(*after_an_exchange(secret_cell(SCORED)))
    state = started(secret_cell(SCORED))
    assert state.exploration is not None
    assert same(replace(state, guidance=initial_guidance(state.exploration)), state)
