"""A round of FedAvg in this project's engine, and the same work for other simulators, which take turns with it.

Twenty clients with 70 of scikit-learn's digits each, all of them in every round; five local epochs of plain SGD in
batches of 16; the MLP and the CNN of ``training_styles.py``. One core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import training_styles as styles

from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.running.build import run_block

CLIENTS, SAMPLES, ROUNDS, TURNS = 20, 70, 10, 3
MODELS: dict[str, dict[str, Any]] = {"mlp": {"kind": "mlp", "hidden": [64]}, "cnn": {"kind": "cnn", "width": 16}}


def engine(model: str) -> float:
    """Processor seconds of a round: training, aggregation, evaluation on 50 samples, and the record.

    What is done once a run is left out: the time of one round is taken from that of :data:`ROUNDS` more.
    """
    spent = []
    for rounds in (1, 1 + ROUNDS):
        work = block(model, rounds)
        began = time.process_time()
        (record,) = run_block(work)
        spent.append(time.process_time() - began)
        assert len(record.rounds) == rounds
    return (spent[1] - spent[0]) / ROUNDS


def block(model: str, rounds: int) -> Block:
    """The same work as a sweep of one cell."""
    written = {
        "name": "peers", "clients": CLIENTS, "cohort": CLIENTS, "rounds": rounds, "seeds": [0], "algorithm": "fedavg",
        "training": {"epochs": styles.SCHEDULE.epochs, "batch_size": styles.SCHEDULE.batch_size, "lr": 0.1},
        "data": {"kind": "digits", "train_samples": CLIENTS * SAMPLES, "test_samples": 50}, "model": MODELS[model],
    }  # fmt: skip
    return plan(resolve(Document("peers", written))).blocks[0]


@cache
def problem(model: str) -> styles.Problem:
    """The module, which is to be copied, and what each client trains on."""
    found = styles.Problem(styles.MODELS[model], CLIENTS)
    assert {len(job.samples) for job in found.jobs} == {SAMPLES}
    return found


def beside(name: str, peer: Callable[[str], float]) -> None:
    """Print how many times as long ``peer`` takes for a round; it is called by turns with ours.

    Models are those named on the command line, else all.
    """
    torch.set_num_threads(1)
    for model in sys.argv[1:] or MODELS:
        engine(model)  # libraries are loaded on first use
        times = [(peer(model), engine(model)) for _ in range(TURNS)]
        theirs, ours = (min(column) for column in zip(*times, strict=True))
        each = ", ".join(f"{one / other:.1f}" for one, other in times)
        print(
            f"{model}: {name} / this engine {theirs / ours:.1f} ({1000 * theirs:.0f} and {1000 * ours:.0f} ms a round; "
            f"turn by turn {each})",
            flush=True,
        )
