"""Flower beside this project: its FedAvg in its simulation on Ray, with as lean a loop in each client as there is.

Processor time is that of all processes of the simulation, for its clients are processes of Ray's; one works at a time.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
from importlib.metadata import version
from pathlib import Path

import psutil
import rounds
import torch
import torch.nn.functional as F  # noqa: N812
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation


def trained(model: str, client: int, arrays: ArrayRecord) -> ArrayRecord:
    """What a client does: SGD without a DataLoader or an optimiser."""
    torch.set_num_threads(1)
    work, schedule = rounds.problem(model), rounds.styles.SCHEDULE
    module, job = copy.deepcopy(work.module), work.jobs[client]
    module.load_state_dict(arrays.to_torch_state_dict())
    parameters = list(module.parameters())
    for _ in range(schedule.epochs):
        order = torch.randperm(len(job.samples))
        xs, ys = work.x[job.samples[order]], job.labels[order]
        for x, y in zip(xs.split(schedule.batch_size), ys.split(schedule.batch_size), strict=True):
            grads = torch.autograd.grad(F.cross_entropy(module(x), y), parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, grads, alpha=-schedule.lr)
    return ArrayRecord(module.state_dict())


def client_of(model: str) -> ClientApp:
    """An app for every client; a node's number says which it is."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = trained(model, int(context.node_config["partition-id"]), message.content["arrays"])
        content = {"arrays": arrays, "metrics": MetricRecord({"num-examples": rounds.SAMPLES})}
        return Message(RecordDict(content), reply_to=message)

    return app


def spent() -> float:
    """Processor seconds so far, of this process and of all that it started."""
    here = psutil.Process()
    total = 0.0
    for process in [here, *here.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def simulated(model: str) -> float:
    """Processor seconds of a round, the first two apart: Ray still starts processes then."""
    times, module, server = list[float](), copy.deepcopy(rounds.problem(model).module), ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        def clock(number: int, arrays: ArrayRecord) -> None:
            times.append(spent())
            module.load_state_dict(arrays.to_torch_state_dict())

        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=rounds.CLIENTS)
        strategy.start(grid, ArrayRecord(module.state_dict()), num_rounds=2 + rounds.ROUNDS, evaluate_fn=clock)

    one_core = {"client_resources": {"num_cpus": 1}, "init_args": {"address": "local", "num_cpus": 1}}
    run_simulation(server, client_of(model), num_supernodes=rounds.CLIENTS, backend_config=one_core)
    work = rounds.problem(model)
    with torch.no_grad():
        assert F.cross_entropy(module(work.x), work.y).item() < 1, "it has learned"
    return (times[-1] - times[2]) / rounds.ROUNDS


if __name__ == "__main__":
    here = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ |= {"PYTHONPATH": os.pathsep.join(here), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    logging.getLogger("flwr").setLevel(logging.ERROR)
    rounds.beside(f"Flower {version('flwr')}", simulated)
