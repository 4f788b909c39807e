"""What the numbers that secure runs reveal tell about a client's classes. Run as a script; prints a Markdown table.

The attacker is the server. It has data of its own (the test set), trains shadow clients for every pair of classes from
the public weights, computes of them the numbers that the parties reveal of real clients, with the same public vectors
and sketches, and learns from these to tell the classes. Chance is 0.2: two of ten classes.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np
import torch
from secure_scores import PROFILE, SEEDS, cells, table
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.linear_exploration import energy_points, energy_rows, linear_landscape
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.attacks.inference.label_inference import class_scores
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.secure_clients import clipped, norm_bound, update_points
from autoflip_secure.federation.secure_updates import SecretUpdates, secure_aggregate
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ClientJob, PublicView
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import LocalRows, Sketch
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer

PAIRS = list(combinations(range(10), 2))
SHADOWS = 8  # of every pair of classes


class Noted(LocalRows):
    """Rows that note what is asked of every single one."""

    def __init__(self, values: Tensor, clients: tuple[int, ...]) -> None:
        super().__init__(values, clients)
        self.asked: list[tuple[Any, ...]] = []

    def products(self, vectors: Tensor) -> Tensor:
        self.asked.append((LocalRows.products, vectors))
        return super().products(vectors)

    def squared_norms(self, sketch: Sketch | None = None, starts: Tensor | None = None) -> Tensor:
        self.asked.append((LocalRows.squared_norms, sketch, starts))
        return super().squared_norms(sketch, starts)


def numbers(rows: LocalRows, asked: list[tuple[Any, ...]], points: FixedPoint) -> Tensor:
    """The answers: norms as logarithms, products as they are, also in parts of the norms."""
    squares = [op(rows, *more).double() for op, *more in asked if op is LocalRows.squared_norms]
    products = [op(rows, *more).double() for op, *more in asked if op is LocalRows.products]
    found = [(s * points.unit**2).clamp_min(1e-18).log() for s in squares]
    for product in products:
        size = torch.cat(squares, 1).sum(1, keepdim=True).sqrt() if squares else torch.ones(len(product), 1)
        found.append(product / size.clamp_min(1))
    return torch.cat(found, dim=1)


def shadows(cell: Cell, trainer: Trainer, start: Tensor, mask: Tensor, schedule: Any, round_: int) -> Tensor:
    """Updates of shadow clients: the attacker's own data, two classes each, as many samples as a client has."""
    problem, jobs = cell.problem, []
    size = round(sum(len(c) for c in problem.clients) / len(problem.clients))
    for number, pair in enumerate(PAIRS * SHADOWS):
        draw = generator(cell.seed, Purpose.AUDIT, 7, round_, number)
        pools = [(problem.y_test == c).nonzero().squeeze(1) for c in pair]
        chosen = torch.cat([pool[torch.randint(0, len(pool), (size // 2,), generator=draw)] for pool in pools])
        jobs.append(ClientJob(start, chosen, problem.y_test[chosen], cell.seed, (10**6 + round_, number), mask))
    return trainer.train(problem.module, problem.layout, problem.x_test, jobs, schedule).updates


def log_odds(known: Tensor, own: Tensor) -> Tensor:
    """Of every class, for rows ``own``, learned from shadows ``known``: (rows, 10)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = np.zeros((len(own), 10))
    for label in range(10):
        has = np.array([label in pair for pair in PAIRS * SHADOWS])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=500))
        found[:, label] = model.fit(known.numpy(), has).decision_function(own.numpy())
    return torch.from_numpy(found)


class Seen(Watcher):
    """Attacks the explorers once and the participants of every round, from revealed numbers and in the open."""

    def __init__(self, trainer: Trainer, aggregator: AgreementWeighted | RadialAgreement) -> None:
        self.trainer, self.aggregator = trainer, aggregator
        self.odds: dict[tuple[str, int], Tensor] = {}

    def add(self, view: str, cell: Cell, clients: Tensor, odds: Tensor) -> None:
        whole = self.odds.setdefault((view, cell.seed), torch.zeros(len(cell.problem.clients), 10, dtype=torch.double))
        whole[clients] += odds.double()

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        points = energy_points(len(sent))
        rows = Noted(points.encode(energy_rows(sent), clients.tolist()), tuple(clients.tolist()))
        linear_landscape(rows, points, "scores", generator(cell.seed, Purpose.SECURE_CHECKS, 0))
        start, schedule = cell.problem.initial, cell.protocol.exploration.schedule(cell.protocol.training)
        known = shadows(cell, self.trainer, start, torch.ones_like(start, dtype=torch.bool), schedule, 0)
        whole = LocalRows(points.encode(energy_rows(known), range(len(known))), tuple(range(len(known))))
        for what, asked in (("numbers", rows.asked), ("checks alone", rows.asked[:1]), ("a, b alone", rows.asked[1:])):
            odds = log_odds(numbers(whole, asked, points), numbers(rows, asked, points))
            self.add(f"exploration, `reveal: scores`, {what}", cell, clients, odds)
        self.add("exploration, plain deviations", cell, clients, class_scores(sent, cell.problem.layout))

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        samples = torch.tensor([float(len(cell.problem.clients[k])) for k in clients.tolist()])
        layout, kind = cell.problem.layout, self.aggregator.kind
        nothing = torch.zeros(len(clients))
        view = PublicView(
            before.round + 1, clients, samples, before.weights, before.mask, before.guidance, layout, nothing
        )
        bound = norm_bound(self.aggregator.typical_norm(before.aggregator), before.weights * view.live)
        points = update_points(bound, layout.size)

        def encoded(updates: Tensor) -> Tensor:
            return points.encode(clipped(updates, bound, view.live), range(len(updates)))

        rows = Noted(encoded(sent), tuple(clients.tolist()))
        draws = generator(cell.seed, Purpose.SECURE_CHECKS, before.round + 1)
        secure_aggregate(self.aggregator, before.aggregator, view, SecretUpdates(rows, points, bound), draws)
        known = shadows(cell, self.trainer, before.weights, before.mask, cell.protocol.training, before.round + 1)
        whole = LocalRows(encoded(known), tuple(range(len(known))))
        views = {"numbers": rows.asked, "checks alone": rows.asked[:1], "without checks": rows.asked[1:]}
        odds = {
            f"{kind}, {what}": log_odds(numbers(whole, asked, points), numbers(rows, asked, points))
            for what, asked in views.items()
        }
        plain = class_scores(sent, layout)
        when = "round 1" if before.round == 0 else None
        for name, value in (*odds.items(), (f"{kind}, plain updates", plain)):
            self.add(f"{name}, all rounds", cell, clients, value)
            if when:
                self.add(f"{name}, {when}", cell, clients, value)


def owned(cell: Cell) -> Tensor:
    """Which classes each client has."""
    problem = cell.problem
    return torch.stack([torch.bincount(problem.y_train[r], minlength=10) > 0 for r in problem.clients])


def main(rounds: int = 20) -> None:
    """All views, five seeds."""
    from sklearn.metrics import roc_auc_score

    hits: dict[str, list[Tensor]] = defaultdict(list)
    scores: dict[str, list[float]] = defaultdict(list)
    for aggregator in (AgreementWeighted.model_validate(PROFILE), RadialAgreement(noise="norm")):
        algorithm = {"name": "x", "pruner": "none", "aggregator": aggregator.model_dump(mode="json")}
        explore = {"method": "linear"}
        for block, trainer in cells(
            "2 classes", rounds=rounds, evaluate_every=rounds, algorithm=algorithm, exploration=explore
        ):
            watch = Seen(trainer, aggregator)
            watch_cells(block, trainer, watch)
            for (view, seed), odds in watch.odds.items():
                if view.startswith("exploration") and aggregator.kind != "agreement":
                    continue
                has = owned(next(cell for cell in block if cell.seed == seed))
                met = odds.abs().sum(1) > 0
                guesses = odds.argsort(dim=1, descending=True)[:, :2]
                hits[view].append(has.gather(1, guesses)[met].double().mean(1))
                scores[view].append(float(roc_auc_score(has[met].flatten(), odds[met].flatten())))
    rows = []
    for view in sorted(hits):
        each = torch.cat(hits[view])
        error = 1.96 * float(each.std()) / len(each) ** 0.5
        rows.append([view, str(len(each)), f"{float(each.mean()):.3f} ± {error:.3f}", f"{np.mean(scores[view]):.3f}"])
    title = f"Classes guessed from what is seen: digits, 2 classes a client, {len(SEEDS)} seeds; chance 0.200 and 0.5"
    table(title, ["view", "clients", "correct (95 %)", "area under the curve"], rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*(int(x) for x in sys.argv[1:]))
