"""The figures of docs/secure_sums.md about scores without seeing an update. Run as a script; names of tables choose.

python benchmarks/secure_scores.py [explorers] [profile] [digits] [sizes]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.energy_profile import GROUPS, affinity, landscape_groups
from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.algorithm.guidance import normalise
from autoflip_secure.algorithm.order_statistics import mad, quantile
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells, watch_cells
from autoflip_secure.federation.secure_clients import clipped, norm_bound, update_points
from autoflip_secure.federation.secure_updates import SecretUpdates, secure_aggregate
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import PublicView
from autoflip_secure.interfaces.row_reader import cosine, grouped
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.secure_rows.secret_rows import LocalRows, Sketch
from autoflip_secure.seeds import Purpose, generator

SEEDS = range(10, 15)
SPLITS: dict[str, Any] = {"IID": "iid", "2 classes": {"kind": "pathological", "classes_per_client": 2}}
PROFILE = {"kind": "agreement", "statistics": ["profile", "size", "direction"]}


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print it as Markdown."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def cells(split: str, **settings: Any) -> Iterator[tuple[list[Cell], Any]]:
    """Blocks of cells on the embedded digits with the default perceptron, and their trainers."""
    scenario = {"name": "b", "question": "b", "seeds": list(SEEDS), "partition": SPLITS[split], **settings}
    builder = CellBuilder()
    for block in plan(resolve(Document("benchmark", scenario))).blocks:
        yield (
            [builder.cell(c, block.cells[0], torch.device("cpu")) for c in block.cells],
            builder.trainer(block.cells[0]),
        )


# ---------------------------------------------------------------------------------------------- explorers


class Explored(Watcher):
    """Keeps what explorers send."""

    def __init__(self) -> None:
        self.seen: list[tuple[Cell, Tensor]] = []

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        self.seen.append((cell, sent))


def noise(sigma: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    return lambda row, draw: row + sigma * torch.randn(len(row), generator=draw)


def spike(count: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    def change(row: Tensor, draw: torch.Generator) -> Tensor:
        return torch.zeros_like(row).index_fill(0, torch.randperm(len(row), generator=draw)[:count], 1.0)

    return change


BAD: dict[str, tuple[float, Callable[[Tensor, torch.Generator], Tensor]]] = {
    "nobody": (0.0, noise(0.0)),
    "noise .02, 20 %": (0.2, noise(0.02)),
    "noise .5, 20 %": (0.2, noise(0.5)),
    "noise .5, 40 %": (0.4, noise(0.5)),
    "all energy on 50 random weights, 20 %": (0.2, spike(50)),
    "all energy on 500 random weights, 20 %": (0.2, spike(500)),
}


def cosine_with_mean(deviations: Tensor) -> tuple[Tensor, Tensor]:
    """What was tried first: the robust form with the mean of e_k as reference."""
    energies, norms = deviations.square(), deviations.norm(dim=1)
    energies = energies / energies.sum(1, keepdim=True)
    a = cosine(energies, energies.mean(0)) * (quantile(norms, 0.5) / norms).clamp(max=1)
    kept = a >= quantile(a, 0.5) - 3 * torch.maximum(mad(a, quantile(a, 0.5)), 0.05 * quantile(a, 0.5))
    return (a * kept / (a * kept).sum()) @ energies, kept


def landscape(deviations: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """D_0 and who was kept."""
    if method == "cosine with the mean":
        return cosine_with_mean(deviations)
    n, reveal = len(deviations), "sum" if method.endswith("sum") else "scores"
    found = explore(torch.arange(n), torch.ones(n), deviations, method.split(",", maxsplit=1)[0], [[0.0]] * n, reveal)
    return found.energy, found.kept


def explorers() -> None:
    methods = ("robust", "linear", "linear, reveal sum", "cosine with the mean", "plain")
    rows = []
    for split in SPLITS:
        watch = Explored()
        for block, trainer in cells(split, rounds=1, algorithm="autoflip"):
            watch_cells(block, trainer, watch)
        for malicious, (share, change) in BAD.items():
            values = defaultdict(list)
            for cell, clean in watch.seen:
                layout, n = cell.problem.layout, len(clean)
                draw = generator(cell.seed, Purpose.UPDATE_ATTACK)
                chosen = torch.randperm(n, generator=draw)[: round(share * n)]
                sent = (
                    clean.index_copy(0, chosen, torch.stack([change(r, draw) for r in clean[chosen]]))
                    if share
                    else clean
                )
                honest = torch.ones(n, dtype=torch.bool).index_fill(0, chosen, False)
                hidden = layout.prunable
                aim = normalise(landscape(clean, "robust")[0], layout)[hidden] >= 0.3
                for method in methods:
                    energy, kept = landscape(sent, method)
                    mask = normalise(energy, layout)[hidden] >= 0.3
                    found = float((~kept[~honest]).float().mean()) if share else float("nan")
                    lost = float((~kept[honest]).float().mean())
                    values[method].append(
                        (float((~mask).float().mean()), float((mask == aim).float().mean()), found, lost)
                    )
            for method in methods:
                pruned, same, found, lost = torch.tensor(values[method]).mean(0).tolist()
                shown = f"{found:.0%}" if share and method != "plain" else "-"
                rows.append([split, malicious, method, f"{pruned:.2f}", f"{same:.3f}", shown, f"{lost:.1%}"])
    table(
        "Explorers: pruned at T_p .3; share of the mask as by `robust` without malicious explorers; detected "
        "malicious explorers; honest ones left out",
        ["split", "malicious", "method", "pruned", "mask equal", "detected", "lost"],
        rows,
    )


# ---------------------------------------------------------------------------------------------- profile or landscape


def profile() -> None:
    attacks: dict[str, Any] = {
        "nobody": "none",
        "noise .02, 20 %": {"kind": "gaussian_noise", "sigma": 0.02},
        "noise .5, 20 %": {"kind": "gaussian_noise", "sigma": 0.5},
        "30 % of labels, 20 %": {"kind": "label_flip", "share": 0.3},
    }
    rows = []
    for split in SPLITS:
        for name, attack in attacks.items():
            row = [split, name]
            for aggregator in ("mean", "agreement", PROFILE):
                accuracies, malicious, good = [], [], []
                algorithm = {"name": "x", "pruner": "none", "aggregator": aggregator}
                for block, trainer in cells(split, rounds=60, attack=attack, algorithm=algorithm, evaluate_every=60):
                    for record in run_cells(block, trainer):
                        accuracies.append(record.final_accuracy)
                        for entry in record.rounds:
                            for score, wrong in zip(entry.scores or [], entry.malicious, strict=False):
                                (malicious if wrong else good).append(score)
                mean = sum(accuracies) / len(accuracies)
                row.append(f"{100 * mean:.1f}")
                if aggregator != "mean":
                    shown = f"{sum(malicious) / len(malicious):.2f}" if malicious else "-"
                    row.append(f"{shown} / {sum(good) / len(good):.2f}")
            rows.append(row)
    head = [
        "split",
        "malicious",
        "mean",
        "landscape",
        "scores malicious / honest",
        "profile",
        "scores malicious / honest",
    ]
    table("Accuracy after 60 rounds (%), no pruning, 5 seeds; mean scores of participants", head, rows)


# ---------------------------------------------------------------------------------------------- sketches


class Sketched(Watcher):
    """Scores every round once exactly and once per width, from the same state, and keeps the differences."""

    def __init__(self, aggregator: AgreementWeighted | RadialAgreement, widths: tuple[int, ...]) -> None:
        self.aggregator, self.widths = aggregator, widths
        self.errors: dict[tuple[int, str], list[Tensor]] = defaultdict(list)

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        samples = torch.tensor([float(len(cell.problem.clients[k])) for k in clients.tolist()])
        layout = cell.problem.layout
        nothing = torch.zeros(len(clients))
        view = PublicView(
            before.round + 1, clients, samples, before.weights, before.mask, before.guidance, layout, nothing
        )
        bound = norm_bound(self.aggregator.typical_norm(before.aggregator), before.weights)
        points = update_points(bound, layout.size)
        owners = tuple(clients.tolist())
        rows = LocalRows(points.encode(clipped(sent, bound, view.live), owners), owners)
        updates = SecretUpdates(rows, points, bound)
        draw = generator(cell.seed, Purpose.AUDIT, before.round)
        exact = secure_aggregate(self.aggregator, before.aggregator, view, updates, draw, None)
        assert exact.scores is not None
        for width in self.widths:
            found = secure_aggregate(self.aggregator, before.aggregator, view, updates, draw, width)
            assert found.scores is not None
            self.errors[width, "score"].append((found.scores - exact.scores).abs())
            for name, value in exact.statistics.items():
                self.errors[width, name].append((found.statistics[name] - value).abs().nan_to_num(0))


def digits() -> None:
    widths = (16, 64, 256, 1024)
    kinds = {"agreement": AgreementWeighted.model_validate(PROFILE), "radial": RadialAgreement(noise="norm")}
    for name, aggregator in kinds.items():
        errors: dict[tuple[int, str], list[Tensor]] = defaultdict(list)
        for split in SPLITS:
            algorithm = {"name": "x", "pruner": "none", "aggregator": aggregator.model_dump(mode="json")}
            attack = {"kind": "gaussian_noise", "sigma": 0.05}
            for block, trainer in cells(split, rounds=20, attack=attack, algorithm=algorithm, evaluate_every=20):
                watch = Sketched(aggregator, widths)
                watch_cells(block, trainer, watch)
                for key, found in watch.errors.items():
                    errors[key] += found
        names = list(dict.fromkeys(key[1] for key in errors))
        rows = []
        for width in widths:
            joined = [torch.cat(errors[width, n]) for n in names]
            rows.append([str(width), *(f"{float(e.mean()):.4f} / {float(e.quantile(0.99)):.4f}" for e in joined)])
        title = f"Sketched against exact, `{name}`: digits, both splits, 5 seeds, 20 rounds, noise .05; mean / 99 %"
        table(title, ["buckets per group", *names], rows)


def sizes() -> None:
    rows = []
    for params in (10_000, 100_000, 1_000_000):
        for width in (64, 256, 1024):
            norms, profiles = [], []
            for seed in SEEDS:
                draw = torch.Generator().manual_seed(seed)
                energy = torch.rand(params, generator=draw) ** 8
                updates = energy.sqrt() * torch.randn(5, params, generator=draw)
                live = torch.ones(params, dtype=torch.bool)
                points = update_points(float(updates.norm(dim=1).max()), params)
                secret = LocalRows(points.encode(updates, range(5)), tuple(range(5)))
                groups = landscape_groups(energy, live)
                energies = grouped(energy[None], groups, GROUPS)[0]
                exact = grouped(updates.square(), groups, GROUPS)
                sketch, starts = Sketch.random(groups, GROUPS, width, draw)
                found = points.decode(secret.squared_norms(sketch, starts), power=2)
                norms.append((found.sum(1) / exact.sum(1)).sqrt() - 1)
                profiles.append(affinity(found, energies) - affinity(exact, energies))
            norm, other = (torch.cat(x).abs() for x in (norms, profiles))
            rows.append(
                [
                    f"{params:,}",
                    str(width),
                    f"{GROUPS * width:,}",
                    *(f"{float(e.mean()):.4f} / {float(e.max()):.4f}" for e in (norm, other)),
                ]
            )
    head = ["parameters", "buckets per group", "Beaver products per client", "norm, relative", "profile"]
    table(
        "Sketched against exact by size: heavy-tailed random updates, 5 seeds x 5 clients; mean / largest", head, rows
    )


TABLES = {"explorers": explorers, "profile": profile, "digits": digits, "sizes": sizes}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or TABLES:
        TABLES[chosen]()
