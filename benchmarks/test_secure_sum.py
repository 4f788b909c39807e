"""What secure sums cost: a secure mean beside a plain one and beside additive masking, in one run.

Processor seconds of all processes together, because wall time of several processes on few busy cores says little; the
best of some turns. The masking baseline is the least that hides a row from a server: the same fixed point, one mask a
client from the operating system's generator, and a server that is told the sum of the masks; all in one process, and
nothing is sent anywhere. Beside it the same with masks that are expanded from keys, as shares are.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from workloads import shaped

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.guidance import initial_guidance
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties, local_parties
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.shares import uniform
from autoflip_secure.federation.secure_rounds import LARGEST_ENTRY, secret_mean
from autoflip_secure.federation.secure_updates import score_secretly
from autoflip_secure.secure_rows.fixed_point import FixedPoint

SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000, "10M": 10_000_000}
TURNS = {"10k": 3, "100k": 3, "1M": 3, "10M": 1}
REPEATS = {"10k": 50, "100k": 10, "1M": 1, "10M": 1}
MEMORY = 10 * 2**30  # free bytes that the largest size needs


@dataclass(frozen=True)
class Pool:
    """Parties, and what they use."""

    where: Parties
    processes: list[psutil.Process]
    started: float  # processor seconds of all, until they listened

    def processor(self) -> float:
        """Processor seconds of this process and the parties so far."""
        times = [p.cpu_times() for p in (psutil.Process(), *self.processes)]
        return sum(t.user + t.system for t in times)

    def memory(self) -> float:
        """MiB that the largest party holds now."""
        return max(p.memory_info().rss for p in self.processes) / 2**20


@pytest.fixture(scope="module", params=[2, 3], ids=["2 parties", "3 parties"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    before = set(psutil.Process().children(recursive=True))
    with local_parties(request.param, timeout=300) as where:
        new = set(psutil.Process().children(recursive=True)) - before  # the server that forks them too, the first time
        ours = [p for p in new if "resource_tracker" not in str(p.cmdline())]
        yield Pool(where, ours, sum(p.cpu_times().user + p.cpu_times().system for p in ours))


def best(
    task: Callable[[], object], turns: int, clock: Callable[[], float] = time.process_time, repeats: int = 1
) -> tuple[float, float]:
    """(processor seconds, wall seconds) of the best turn; short tasks repeat, for processes count in hundredths."""
    found = []
    for _ in range(turns):
        began, wall = clock(), time.perf_counter()
        for _ in range(repeats):
            task()
        found.append(((clock() - began) / repeats, (time.perf_counter() - wall) / repeats))
    return min(found)


def from_system(count: int) -> Tensor:
    """Every mask as it comes from the operating system."""
    return torch.frombuffer(bytearray(os.urandom(8 * count)), dtype=torch.int64)


def masking(rows: Tensor, samples: Tensor, draw: Callable[[int], Tensor] = from_system) -> Tensor:
    """The baseline: what clients add is what the server takes off again."""
    points = FixedPoint.for_sums(LARGEST_ENTRY, int(samples.sum()))
    total = torch.zeros(rows.shape[1], dtype=torch.int64)
    masks = torch.zeros_like(total)
    for client, row in enumerate(rows):
        mask = draw(len(row))
        total.add_(points.encode(row[None], (client,))[0] * samples[client] + mask)
        masks.add_(mask)
    return points.decode(total - masks) / int(samples.sum())


def round_of(clients: int, size: str) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(clients)
    rows = torch.randn(clients, SIZES[size], generator=source) * 0.01
    return rows, torch.randint(20, 100, (clients,), generator=source)


CASES = [(n, size) for size in ("10k", "100k", "1M") for n in (5, 20)] + [(5, "10M")]


@pytest.mark.parametrize(("clients", "size"), CASES, ids=[f"{n} x {size}" for n, size in CASES])
def test_secure_mean(
    clients: int, size: str, pool: Pool, benchmark: BenchmarkFixture, ratios: Callable[..., None]
) -> None:
    parties = len(pool.where.addresses)
    if size == "10M" and (parties > 2 or psutil.virtual_memory().available < MEMORY):
        pytest.skip("10M parameters: once, with two parties and 10 GiB of free memory")
    rows, samples = round_of(clients, size)
    ids, live = tuple(range(clients)), torch.ones(SIZES[size], dtype=torch.bool)
    turns, repeats = TURNS[size], REPEATS[size]
    plain, _ = best(lambda: (samples.float() / samples.sum()) @ rows, turns, repeats=repeats)
    masked, _ = best(lambda: masking(rows, samples), turns, repeats=repeats)
    expanded, _ = best(lambda: masking(rows, samples, uniform), turns, repeats=repeats)
    before = pool.memory()
    with Session(pool.where) as session:

        def secure() -> Tensor:
            return secret_mean(ids, rows, samples, live, session).delta

        benchmark.pedantic(secure, rounds=1)  # processor seconds of this process: clients and server
        sent = session.traffic
        seconds, wall = best(secure, turns, pool.processor, repeats)
        after = session.traffic
        error = secret_error(rows, samples, session)
    per_turn = [
        getattr(after, name) / (turns * repeats + 1) / 1e6 for name in ("from_clients", "to_server", "between_parties")
    ]
    assert sent.from_clients * (turns * repeats + 1) == after.from_clients
    ratios(
        f"secure mean / masking, {parties} parties, {clients} x {size}", seconds / masked,
        "<= 2" if SIZES[size] >= 1_000_000 else "",
        f"{1e3 * seconds:,.0f} ms, wall {1e3 * wall:,.0f}; {seconds / expanded:.2f} of expanded masks; plain mean "
        f"{1e3 * plain:,.1f} ms; MB up {per_turn[0]:.1f}, "
        f"down {per_turn[1]:.1f}, between {per_turn[2]:.1f}; party +{max(pool.memory() - before, 0):,.0f} MiB; "
        f"error {error:.0e} of the largest entry",
    )  # fmt: skip


def secret_error(rows: Tensor, samples: Tensor, session: Session) -> float:
    """Largest error of the decoded sum against float64, relative to the largest entry."""
    points = FixedPoint.for_sums(LARGEST_ENTRY, int(samples.sum()))
    shared = session.share(points.encode(rows, range(len(rows))), tuple(range(len(rows))))
    found = points.decode(shared.total(samples)) / int(samples.sum())
    shared.forget()
    exact = (samples.double() / samples.sum()) @ rows.double()
    error = float((found - exact).abs().max() / exact.abs().max())
    assert error < 1e-9
    return error


def test_start_up_is_paid_once(pool: Pool, benchmark: BenchmarkFixture, ratios: Callable[..., None]) -> None:
    def session() -> None:
        Session(pool.where).close()

    benchmark.pedantic(session, rounds=5)
    seconds, _ = best(session, 3, pool.processor, 20)
    ratios(
        f"start-up of {len(pool.where.addresses)} parties, processor seconds", pool.started, "",
        f"once a sweep; a session with them {1e3 * seconds:,.0f} ms",
    )  # fmt: skip


def test_cost_is_linear(pool: Pool, benchmark: BenchmarkFixture, ratios: Callable[..., None]) -> None:
    costs = {}
    with Session(pool.where) as session:
        for clients, size in ((5, "100k"), (20, "1M")):
            rows, samples = round_of(clients, size)
            ids, live = tuple(range(clients)), torch.ones(SIZES[size], dtype=torch.bool)

            def secure(ids=ids, rows=rows, samples=samples, live=live) -> object:  # type: ignore[no-untyped-def]
                return secret_mean(ids, rows, samples, live, session)

            if size == "100k":
                benchmark.pedantic(secure, rounds=5)
            costs[clients, size] = best(secure, TURNS[size], pool.processor, REPEATS[size])[0] / (clients * SIZES[size])
    ratios(
        f"cost per number, 20 x 1M / 5 x 100k, {len(pool.where.addresses)} parties",
        costs[20, "1M"] / costs[5, "100k"], "<= 1.25",
    )  # fmt: skip


@pytest.mark.parametrize("statistics", [("profile", "size", "direction"), ("landscape", "size", "direction")])
def test_secure_agreement(
    statistics: tuple[str, ...], pool: Pool, benchmark: BenchmarkFixture, ratios: Callable[..., None]
) -> None:
    """Scores and weighted sum of 20 updates of a model of a million parameters, beside the secure mean of the same."""
    where = shaped("1M")
    view = replace(where.round_view(20), guidance=initial_guidance(where.exploration))
    aggregator = AgreementWeighted(statistics=statistics)
    state = aggregator.start(where.layout, where.weights, 20, where.exploration)
    state = aggregator.aggregate(state, view).state  # memories of a round, so that every statistic is computed
    everyone = torch.ones(20, dtype=torch.bool)
    ids, samples = tuple(range(20)), view.samples.long()
    with Session(pool.where) as session:

        def scored() -> object:
            draws = torch.Generator().manual_seed(0)
            return score_secretly(session, aggregator, state, view.public, view.updates, everyone, draws, 256)

        def mean() -> object:
            return secret_mean(ids, view.updates, samples, view.mask, session)

        benchmark.pedantic(scored, rounds=1)
        costs = [best(task, 2, pool.processor) for task in (scored, mean)]
    ratios(
        f"secure agreement ({statistics[0]}) / secure mean, {len(pool.where.addresses)} parties, 20 x 1M",
        costs[0][0] / costs[1][0], "<= 2", f"wall {costs[0][1]:.2f} s and {costs[1][1]:.2f} s",
    )  # fmt: skip
