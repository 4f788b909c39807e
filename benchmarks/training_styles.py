"""The ways to train a cohort that are compared, and on what. Run as a script: the peak memory of one of them."""

from __future__ import annotations

import copy
import gc
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn
from autoflip_secure.training import SequentialTrainer, StackedTrainer

SCHEDULE = TrainingSchedule(lr=0.1, batch_size=16, epochs=5)


def mlp() -> nn.Module:
    """4,810 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    """38,282 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def cnn_of_28() -> nn.Module:
    """105,866 parameters, for images of 28x28, with channels last."""
    return Cnn(channels_last=True).make((1, 28, 28), 10).to(memory_format=torch.channels_last)


class Problem:
    """Digits, split over ``clients`` clients in cells of 20: equal sizes, or Dirichlet ones; ``side``: made larger."""

    def __init__(self, make: Callable[[], nn.Module], clients: int, alpha: float | None = None, side: int = 8) -> None:
        digits = load_digits()
        self.x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
        if side != 8:
            self.x = F.interpolate(self.x, (side, side), mode="bilinear")
        self.y = torch.tensor(digits.target)
        torch.manual_seed(0)
        self.module = make()
        self.layout = Layout.of(self.module)
        start = self.layout.vector(self.module)
        random = np.random.default_rng(0)
        self.jobs: list[ClientJob] = []
        while len(self.jobs) < clients:
            cohort = min(20, clients - len(self.jobs))
            shares = np.full(cohort, 1 / 20) if alpha is None else random.dirichlet([alpha] * cohort)
            cuts = np.cumsum(np.maximum(1, np.floor(shares * 1400))).astype(int)
            for rows in np.split(random.permutation(1797), cuts)[:-1]:
                samples = torch.tensor(rows)
                self.jobs.append(ClientJob(start, samples, self.y[samples], 0, (1, len(self.jobs))))

    @property
    def samples(self) -> int:
        """Samples that are trained on, epochs counted."""
        return SCHEDULE.epochs * sum(len(job.samples) for job in self.jobs)


def stacked(problem: Problem) -> Tensor:
    """This project's stacked trainer."""
    return StackedTrainer().train(problem.module, problem.layout, problem.x, problem.jobs, SCHEDULE).updates


def sequential(problem: Problem) -> Tensor:
    """This project's reference: torch.optim on one reused module."""
    return SequentialTrainer().train(problem.module, problem.layout, problem.x, problem.jobs, SCHEDULE).updates


def tuned_loop(problem: Problem) -> Tensor:
    """As lean as a loop over clients gets: no DataLoader, no optimiser object, one module, one foreach call a step."""
    module = copy.deepcopy(problem.module)
    parameters = list(module.parameters())
    updates = []
    for job in problem.jobs:
        problem.layout.load(module, job.start)
        source = torch.Generator().manual_seed(job.address[1])
        for _ in range(SCHEDULE.epochs):
            order = torch.randperm(len(job.samples), generator=source)
            xs, ys = problem.x[job.samples[order]], job.labels[order]
            for x, y in zip(xs.split(SCHEDULE.batch_size), ys.split(SCHEDULE.batch_size), strict=True):
                grads = torch.autograd.grad(F.cross_entropy(module(x), y), parameters)
                with torch.no_grad():
                    torch._foreach_add_(parameters, grads, alpha=-SCHEDULE.lr)
        updates.append(problem.layout.vector(module) - job.start)
    return torch.stack(updates)


def copy_and_loader(problem: Problem) -> Tensor:
    """The usual style of research code: a deep copy, a DataLoader and an optimiser per client."""
    updates = []
    for job in problem.jobs:
        module = copy.deepcopy(problem.module)
        optimizer = torch.optim.SGD(module.parameters(), lr=SCHEDULE.lr)
        loader = DataLoader(TensorDataset(problem.x[job.samples], job.labels), SCHEDULE.batch_size, shuffle=True)
        for _ in range(SCHEDULE.epochs):
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(module(x), y).backward()
                optimizer.step()
        updates.append(problem.layout.vector(module) - job.start)
    return torch.stack(updates)


STYLES: dict[str, Callable[[Problem], Tensor]] = {
    "stacked": stacked,
    "sequential": sequential,
    "tuned_loop": tuned_loop,
    "copy_and_loader": copy_and_loader,
}
MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn}


def seconds(*tasks: Callable[[], object], rounds: int = 5) -> list[float]:
    """Processor seconds of each task: the best of ``rounds`` turns that the tasks take one after the other."""
    best = [float("inf")] * len(tasks)
    for turn in range(rounds + 1):
        for number, task in enumerate(tasks):
            gc.collect()
            begin = time.process_time()
            task()
            if turn:  # the first turn warms up
                best[number] = min(best[number], time.process_time() - begin)
    return best


def main() -> None:
    """``training_styles.py STYLE MODEL CLIENTS``: peak memory of the training above what was there before, in MiB."""
    torch.set_num_threads(1)
    style, model, clients = sys.argv[1:]
    problem = Problem(MODELS[model], int(clients))
    small = Problem(MODELS[model], 2)
    STYLES[style](small)  # libraries are loaded on first use
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], process.memory_info().rss)

    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    STYLES[style](problem)
    done.set()
    watcher.join()
    print(max(0, peak[0] - before) / 2**20)


if __name__ == "__main__":
    main()
