"""pfl-research beside this project: rounds of FedAvg in its simulator, with its own loop over a client's batches."""

from __future__ import annotations

import copy
import time
from importlib.metadata import version

import rounds
import torch
import torch.nn.functional as F  # noqa: N812
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn


class Net(nn.Module):
    """A module with the loss that pfl-research asks for."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.module(x), y)

    def metrics(self, x: Tensor, y: Tensor) -> dict[str, object]:
        return {}


class Clock(TrainingProcessCallback):
    """Processor time after each round."""

    def __init__(self) -> None:
        self.times = [time.process_time()]

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        self.times.append(time.process_time())
        return False, Metrics()


def simulated(model: str) -> float:
    """Processor seconds of a round, the first one apart."""
    work, lr = rounds.problem(model), rounds.styles.SCHEDULE.lr
    clients = [PyTorchTensorDataset((work.x[job.samples], job.labels)) for job in work.jobs]
    turn = iter(range(10**9))
    users = FederatedDataset(lambda number: clients[number], lambda: next(turn) % rounds.CLIENTS)
    module, clock = Net(copy.deepcopy(work.module)), Clock()
    server = torch.optim.SGD(module.parameters(), lr=1.0)  # it steps by the mean difference
    FederatedAveraging().run(
        NNAlgorithmParams(1 + rounds.ROUNDS, 10**9, rounds.CLIENTS, None),
        SimulatedBackend(users, users),
        PyTorchModel(module, torch.optim.SGD, server),
        NNTrainHyperParams(
            local_batch_size=rounds.styles.SCHEDULE.batch_size,
            local_num_epochs=rounds.styles.SCHEDULE.epochs,
            local_learning_rate=lr,
        ),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    with torch.no_grad():
        assert module.loss(work.x, work.y).item() < 1, "it has learned"
    assert len(clock.times) >= 2 + rounds.ROUNDS
    return (clock.times[1 + rounds.ROUNDS] - clock.times[1]) / rounds.ROUNDS


if __name__ == "__main__":
    rounds.beside(f"pfl-research {version('pfl')}", simulated)
