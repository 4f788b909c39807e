"""Secure sums protect: what finds a client's classes in its deviation finds nothing in what a coalition sees.

The coalition is all parties but one, together with the server. The attack is shown to work where nothing protects, and
the test of uniformity to reject sharings that are not uniform.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from party_views import Received, coalitions, received, watched
from scipy import stats
from torch import Tensor

from autoflip_secure.algorithm.linear_exploration import energy_points, energy_rows
from autoflip_secure.attacks.inference.label_inference import class_scores
from autoflip_secure.defenses.secure_aggregation import session as secure_aggregation
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.shares import opened, split, uniform
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.secure_rounds import secret_landscape
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.secure_rows.secret_rows import public_signs
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer

SEEDS = (10, 11, 12)
CHANCE = 0.2  # two of ten classes
SURE = 1e-6  # shares are drawn anew in each run: a rarer event than this is a finding, a more frequent one is luck


class Explored(Watcher):
    """What explorers send in the open."""

    def __init__(self) -> None:
        self.seen: list[tuple[Cell, Tensor]] = []

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        self.seen.append((cell, sent))


@pytest.fixture(scope="module")
def explored() -> list[tuple[Cell, Tensor]]:
    """Deviations of 20 explorers with two classes each, on the embedded digits."""
    scenario: dict[str, Any] = {
        "name": "s", "question": "s", "seeds": list(SEEDS), "rounds": 1, "cohort": 2, "algorithm": "autoflip",
        "partition": {"kind": "pathological", "classes_per_client": 2}, "exploration": {"method": "linear"},
    }  # fmt: skip
    builder, watch = CellBuilder(), Explored()
    for block in plan(resolve(Document("test", scenario))).blocks:
        cells = [builder.cell(c, block.cells[0], torch.device("cpu")) for c in block.cells]
        watch_cells(cells, builder.trainer(block.cells[0]), watch)
    assert len(watch.seen) == len(SEEDS)
    return watch.seen


def owned(cell: Cell) -> Tensor:
    """Two classes of each client."""
    problem = cell.problem
    found = torch.stack([torch.bincount(problem.y_train[r], minlength=10) > 0 for r in problem.clients])
    assert found.sum(1).tolist() == [2] * len(found)
    return found


def right(cell: Cell, rows: Tensor) -> Tensor:
    """How many of the two classes guessed for each client it owns."""
    guesses = class_scores(rows.float(), cell.problem.layout).argsort(dim=1, descending=True)[:, :2]
    return owned(cell).gather(1, guesses).sum(1)


def p_value(hits: list[Tensor]) -> float:
    """Chance of guessing as well or better: two draws of ten without replacement for each client."""
    each = np.array([stats.hypergeom.pmf(k, 10, 2, 2) for k in range(3)])
    total, clients = int(torch.cat(hits).sum()), len(torch.cat(hits))
    spread = np.array([1.0])
    for _ in range(clients):
        spread = np.convolve(spread, each)
    return float(spread[total:].sum())


def rate(hits: list[Tensor]) -> float:
    return float(torch.cat(hits).float().mean()) / 2


def test_plain_deviations_and_plain_energies_tell_the_classes(explored: list[tuple[Cell, Tensor]]) -> None:
    """Else chance below would say nothing. Energies, which are what is shared, have no signs, and still tell."""
    for view in (lambda sent: sent, energy_rows):
        hits = [right(cell, view(sent)) for cell, sent in explored]
        assert rate(hits) > 2.5 * CHANCE
        assert p_value(hits) < SURE


def asked(seed: int, encoded: Tensor) -> Tensor:
    """The public vectors whose products with every row ``reveal: scores`` tells: four of signs, two sets."""
    signs = public_signs(encoded.shape[1], generator(seed, Purpose.SECURE_CHECKS, 0))
    order = encoded.sum(0).argsort(descending=True, stable=True)
    sets = torch.zeros(2, encoded.shape[1])
    for indicator, share in zip(sets, (0.3, 0.05), strict=True):
        indicator[order[: round(share * encoded.shape[1])]] = 1
    return torch.cat([signs, sets]).double()


class Seen:
    """What a coalition of all parties but one and the server knows after a secure exploration."""

    def __init__(self, where: Parties, cell: Cell, sent: Tensor, reveal: str) -> None:
        self.clients = tuple(range(len(sent)))
        with watched(where) as (through, taps), Session(through) as session:
            samples, losses = torch.ones(len(sent)), [[0.0]] * len(sent)
            draws = generator(cell.seed, Purpose.SECURE_CHECKS, 0)
            found, _, events, _ = secret_landscape(self.clients, sent, samples, losses, reveal, draws, session)
        assert events == []
        self.energy, self.reveal, self.seed = found.energy, reveal, cell.seed
        self.parties: list[Received] = [received(tap) for tap in taps]
        self.points = energy_points(len(sent))
        self.encoded = self.points.encode(energy_rows(sent), self.clients)

    def shares(self, coalition: tuple[int, ...]) -> Tensor:
        """The sum of the coalition's shares of each row, as the fixed point reads it."""
        words = [self.parties[rank].words("share") for rank in coalition]
        return torch.stack([sum((w[k] for w in words), torch.zeros(1, dtype=torch.int64)) for k in self.clients])

    def by_shares(self, coalition: tuple[int, ...]) -> Tensor:
        """The coalition's shares, moved so that their mean is the revealed one."""
        rows = self.points.decode(self.shares(coalition))
        return rows + (self.energy.double() - rows.mean(0))

    def by_numbers(self, coalition: tuple[int, ...]) -> Tensor:
        """Without shares: of all rows with the products that the server learned, the one next to the mean."""
        rows = self.energy.double().expand(len(self.clients), -1)
        if self.reveal == "sum":
            return rows
        vectors = asked(self.seed, self.encoded)
        missing = (self.points.decode(self.encoded) - rows) @ vectors.T
        return rows + torch.linalg.lstsq(vectors, missing.T).solution.T


@pytest.mark.parametrize("reveal", ["sum", "scores"])
def test_a_coalition_guesses_classes_no_better_than_chance(
    explored: list[tuple[Cell, Tensor]], three_parties: Parties, reveal: str
) -> None:
    """From shares and sums nothing is to be had; from six numbers a client only by who is trained (below)."""
    views = [(cell, Seen(three_parties, cell, sent, reveal)) for cell, sent in explored]
    for cell, seen in views:  # what was tapped is what was shared: all parties together have the rows
        everything = torch.stack([seen.shares((rank,)) for rank in range(3)]).sum(0)
        assert torch.equal(everything, seen.encoded)
        assert int(right(cell, seen.points.decode(everything)).sum()) > 20
    for coalition in coalitions(3):
        for guess in (Seen.by_shares, Seen.by_numbers):
            hits = [right(cell, guess(seen, coalition)) for cell, seen in views]
            assert p_value(hits) > SURE, f"{guess.__name__} of {coalition}: {rate(hits):.2f} of the classes"
    only = [right(cell, seen.energy.expand(20, -1)) for cell, seen in views]
    assert rate(only) == pytest.approx(CHANCE)  # the revealed landscape names two classes for everybody


def test_all_parties_together_would_guess(explored: list[tuple[Cell, Tensor]], three_parties: Parties) -> None:
    """The doubt of the test above: one more party in the coalition, and the attack is back."""
    cell, sent = explored[0]
    hits = [right(cell, Seen(three_parties, cell, sent, "sum").by_shares((0, 1, 2)))]
    assert p_value(hits) < SURE


def test_a_server_with_data_of_its_own_learns_classes_from_the_numbers_of_reveal_scores(
    explored: list[tuple[Cell, Tensor]],
) -> None:
    """The limit of ``reveal: scores``, which the docs state: it trains shadow clients and compares their numbers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    hits, pairs = [], list(combinations(range(10), 2)) * 4
    for cell, sent in explored:
        problem, jobs = cell.problem, []
        for number, pair in enumerate(pairs):
            draw = generator(cell.seed, Purpose.AUDIT, number)
            pools = [(problem.y_test == c).nonzero().squeeze(1) for c in pair]
            chosen = torch.cat([pool[torch.randint(0, len(pool), (35,), generator=draw)] for pool in pools])
            jobs.append(ClientJob(problem.initial, chosen, problem.y_test[chosen], cell.seed, (10**6, number)))
        schedule = cell.protocol.exploration.schedule(cell.protocol.training)
        trainer = choose_trainer(problem.module, problem.layout, problem.x_train[:1], "stacked")
        shadows = trainer.train(problem.module, problem.layout, problem.x_test, jobs, schedule).updates
        vectors = asked(cell.seed, energy_points(len(sent)).encode(energy_rows(sent), range(len(sent))))
        known, real = ((energy_rows(rows) @ vectors.T).numpy() for rows in (shadows, sent))
        scale = StandardScaler().fit(known)
        odds = []
        for label in range(10):
            model = LogisticRegression(C=0.3, max_iter=500)
            has = np.array([label in pair for pair in pairs])
            odds.append(
                torch.from_numpy(model.fit(scale.transform(known), has).decision_function(scale.transform(real)))
            )
        hits.append(owned(cell).gather(1, torch.stack(odds, 1).argsort(dim=1, descending=True)[:, :2]).sum(1))
    assert rate(hits) > 2 * CHANCE
    assert p_value(hits) < SURE


# -------------------------------------------------------------------------------------------------------- uniformity

ROWS, PARAMS = 8, 20_000


def uniformity(where: Parties, seed: int) -> float:
    """Smallest p-value, times their number, of chi-square tests on bytes: every party's view, and every coalition's.

    Of each view the words themselves, and the differences between clients, in which a mask used twice would cancel.
    """
    rows = torch.randint(-50, 50, (ROWS, PARAMS), generator=torch.Generator().manual_seed(seed)) + 2**40
    with watched(where) as (through, taps), Session(through) as session:
        shared = session.share(rows, tuple(range(ROWS)))
        shared.squared_norms()
    seen = [received(tap) for tap in taps]
    found = []
    for op in ("share", "pair"):
        words = [torch.stack([party.words(op)[k] for k in range(ROWS)]) for party in seen]
        views = [*words, *(torch.stack([words[rank] for rank in c]).sum(0) for c in coalitions(len(words)))]
        for view in views:
            for numbers in (view, view[1:] - view[:-1]):
                table = numbers.numpy().view(np.uint8).reshape(-1, 8)
                found += [stats.chisquare(np.bincount(column, minlength=256)).pvalue for column in table.T]
    return float(min(found) * len(found))


@pytest.mark.parametrize("seed", range(10, 14))
def test_what_a_party_and_a_coalition_receive_is_uniform(two_parties: Parties, seed: int) -> None:
    assert uniformity(two_parties, seed) > SURE


def test_three_parties_receive_uniform_words(three_parties: Parties) -> None:
    assert uniformity(three_parties, 10) > SURE


def from_48_bits(row: Tensor, parties: int) -> list[Tensor]:
    """Shares that are wide enough to look random, but are not uniform in the ring."""
    masks = [uniform(len(row)) >> 16 for _ in range(parties - 1)]
    return [*masks, row - torch.stack(masks).sum(0)]


def nearly_uniform(row: Tensor, parties: int) -> list[Tensor]:
    """Every hundredth word keeps the lowest byte of the row."""
    shares = [opened(share) for share in split(row, parties)]
    shares[0][::100] = (shares[0][::100] & ~0xFF) | (row[::100] & 0xFF)
    return [*shares[:-1], row - torch.stack(shares[:-1]).sum(0)]


MASKS: dict[tuple[int, int], Tensor] = {}


def same_mask(row: Tensor, parties: int) -> list[Tensor]:
    """Uniform shares, the same masks for every client: differences between clients show."""
    masks = [MASKS.setdefault((rank, len(row)), uniform(len(row))) for rank in range(parties - 1)]
    return [*masks, row - torch.stack(masks).sum(0)]


@pytest.mark.parametrize("broken", [from_48_bits, nearly_uniform, same_mask])
def test_sharings_that_are_not_uniform_are_noticed(
    two_parties: Parties, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Tensor, int], list[Tensor]]
) -> None:
    monkeypatch.setattr(secure_aggregation, "split", broken)
    assert uniformity(two_parties, 10) < SURE
