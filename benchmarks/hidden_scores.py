"""Hidden scores beside revealed ones, through real parties. Run as a script with `accuracy` or `cost`."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from secure_scores import PROFILE, SEEDS, SPLITS, table
from torch import nn

from autoflip_secure.agreement import AgreementWeighted
from autoflip_secure.interfaces import Exploration, Guidance, RoundView
from autoflip_secure.parameters import Layout
from autoflip_secure.record import RunRecord
from autoflip_secure.secure_rounds import secret_mean
from autoflip_secure.seeds import Purpose, generator
from defenses.crew import local_parties
from defenses.secure_aggregation import Session
from scenarios.documents import Document
from scenarios.executors import running
from scenarios.loading import resolve
from scenarios.secure_sums import crews_for
from scenarios.sweep import plan

ATTACKS: dict[str, Any] = {
    "nobody": "none",
    "noise .02, 20 %": {"kind": "gaussian_noise", "sigma": 0.02},
    "noise .5, 20 %": {"kind": "gaussian_noise", "sigma": 0.5},
    "30 % of labels, 20 %": {"kind": "label_flip", "share": 0.3},
}


def records(split: str, attack: str, scores: str) -> list[RunRecord]:
    """Thirty rounds, two parties."""
    scenario = {
        "name": "b", "question": "b", "seeds": list(SEEDS), "partition": SPLITS[split], "attack": ATTACKS[attack],
        "rounds": 30, "evaluate_every": 30, "exploration": {"method": "linear"},
        "algorithm": {"name": "x", "pruner": "threshold", "aggregator": PROFILE},
        "secure_sum": {"parties": 2, "updates": True, "scores": scores},
    }  # fmt: skip
    blocks = plan(resolve(Document("benchmark", scenario))).blocks
    with crews_for(blocks) as crews, running(blocks, 1, lambda block, share: None, crews) as stream:
        return [record for _, found in stream for record in found]


def shown(found: list[RunRecord]) -> list[str]:
    """Accuracy, scores of bad and honest ones, honest ones that count less than half."""
    bad, good = [], []
    for record in found:
        for entry in record.rounds:
            for score, wrong in zip(entry.scores or [], entry.bad, strict=True):
                (bad if wrong else good).append(score)
    accuracy = 100 * sum(record.final_accuracy for record in found) / len(found)
    mean = f"{sum(bad) / len(bad):.2f}" if bad else "-"
    lost = sum(score < 0.5 for score in good) / len(good)
    return [f"{accuracy:.1f}", f"{mean} / {sum(good) / len(good):.2f}", f"{lost:.1%}"]


def accuracy() -> None:
    """Both modes."""
    rows = []
    for split in SPLITS:
        for attack in ATTACKS:
            found = {scores: records(split, attack, scores) for scores in ("revealed", "hidden")}
            row = [split, attack, *shown(found["revealed"]), *shown(found["hidden"])]
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    each = ["accuracy", "scores bad / honest", "honest filtered"]
    head = ["split", "bad", *(f"{scores}: {what}" for scores in ("revealed", "hidden") for what in each)]
    table("Hidden beside revealed scores: digits, 30 rounds, 5 seeds, 2 parties", head, rows)


def rounds(size: int) -> list[list[str]]:
    """One round of five clients in every way, medians of three."""
    aggregator, clients, rows = AgreementWeighted.model_validate(PROFILE), 5, []
    layout = Layout.of(nn.Sequential(nn.Linear(100, size // 110), nn.Linear(size // 110, 10)))
    params, draw = layout.size, generator(10, Purpose.AUDIT)
    energy, everything = torch.rand(params, generator=draw) ** 8, torch.ones(params, dtype=torch.bool)
    view = RoundView(
        1, torch.arange(clients), torch.full((clients,), 50.0),
        energy.sqrt() * (1 + torch.randn(clients, params, generator=draw)), torch.randn(params, generator=draw),
        everything, Guidance(energy, torch.ones(params)), layout, torch.zeros(clients),
    )  # fmt: skip
    nobody = torch.zeros(0)
    explored = Exploration(nobody.long(), nobody, torch.zeros(0, params), energy, nobody, nobody.bool())
    state, obeys = aggregator.start(layout, view.weights, 20, explored), torch.ones(clients, dtype=torch.bool)
    ids, samples = tuple(range(clients)), view.samples.long()
    with local_parties(2, 600) as where, Session(where) as session:
        ways: dict[str, Any] = {
            "mean": lambda: secret_mean(ids, view.updates, samples, everything, session),
            "revealed, sketch of 256": lambda: session.score(aggregator, state, view, obeys, draw, 256),
            "revealed, exact": lambda: session.score(aggregator, state, view, obeys, draw, None),
            "hidden": lambda: session.score(aggregator, state, view, obeys, draw, None, hidden=True),
        }
        base = 0.0
        for name, way in ways.items():
            seconds = []
            for _ in range(3):
                before, began = session.traffic, time.perf_counter()
                way()
                seconds.append(time.perf_counter() - began)
                traffic = session.traffic - before
            middle = sorted(seconds)[1]
            base = base or middle
            sent = traffic.from_clients / clients / params / 2
            between = traffic.between_parties / clients / params
            rows.append([f"{params:,}", name, f"{middle:.3f}", f"{middle / base:.1f}", f"{sent:.1f}", f"{between:.1f}"])
    return rows


def cost(*sizes: str) -> None:
    """By size."""
    rows = [row for size in sizes or ("10000", "100000", "1000000") for row in rounds(int(size))]
    head = ["parameters", "round", "seconds", "of the mean", "bytes from a client to a party, per parameter",
            "between parties, per client and parameter"]  # fmt: skip
    table("One round: 5 clients, 2 parties, medians of 3", head, rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen, *more = sys.argv[1:] or ["accuracy"]
    {"accuracy": accuracy, "cost": cost}[chosen](*more)
