"""A plug-in of every family from outside this package, and runs with them."""

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import run_block

SMALL = """
name: small
clients: 4
cohort: 3
rounds: 2
training: {epochs: 1, batch_size: 64}
data: {kind: digits, train_samples: 120, test_samples: 50}
model: {kind: mlp, hidden: [8]}
algorithm: fedavg
seeds: [3]
"""
OWN = '''
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import nn, where

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.interfaces import Aggregate, Aggregator, Attack, ClientPrivacy, DataAttack, Pruner, UpdateAttack
from autoflip_secure.interfaces import LocalRule
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.defenses.aggregators.krum import Krum
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median
from autoflip_secure.scenarios.data.base import Arrays, DataSource
from autoflip_secure.scenarios.models.chains import Model
from autoflip_secure.scenarios.data.partitions import Partition
from autoflip_secure.scenarios.trackers.base import Tracker, Written


class Flip(UpdateAttack):
    """Turned around."""

    factor: Annotated[float, Field(gt=0, description="how much")] = 1.0

    def updates(self, updates, malicious, active, generators):
        return where(malicious[:, None], -self.factor * updates, updates)


class Shift(DataAttack):
    """The next class."""

    def labels(self, labels, num_classes, generator):
        return (labels + 1) % num_classes


class Middle(Aggregator):
    """The median, by another way."""

    def aggregate(self, state, view):
        n = len(view.updates)
        return Aggregate(view.updates.quantile(0.5, dim=0), view.samples.new_full((n,), 1 / n), None, state)


class Again(Median):
    """The median under a name of its own."""


class Half(Pruner):
    """Every other weight of hidden layers."""

    def mask(self, view):
        mask = view.mask.clone()
        for segment in view.layout.hidden:
            mask[segment.start : segment.stop : 2] = False
        return mask


class Signs(LocalRule):
    """Steps of one size."""

    size: float = 0.01

    def step(self, view, steps):
        return [self.size * step.sign() for step in steps]


class Idle(LocalRule):
    pass


class Turns(Partition):
    """In turn."""

    def deal(self, labels, clients, groups, rng):
        return [np.arange(client, len(labels), clients) for client in range(clients)]


class Points(DataSource):
    """Two clouds."""

    apart: float = 2.0

    def read(self):
        rng = np.random.default_rng(0)
        y = np.arange(80) % 2
        x = (rng.standard_normal((80, 3)) + self.apart * y[:, None]).astype(np.float32)
        return Arrays(x[:60], y[:60], x[60:], y[60:], ("near", "far"))


class Line(Model):
    """One layer."""

    def make(self, input_shape, num_classes):
        size = int(np.prod(input_shape))
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 4), nn.ReLU(), nn.Linear(4, num_classes))


class Quiet(ClientLevel):
    """Client level without the noise."""

    def send(self, state, updates, view):
        return updates


class Lines(Tracker):
    """A line a cell."""

    def __init__(self, place, sweep):
        self.place = place

    def write(self, sweep, records, outcome=None):
        with open(self.place, "w") as file:
            file.writelines(f"{sweep} {record.cell}\\n" for record in records)
        return Written("lines", self.place, len(records), 0, f"cat {self.place}")


class Broken(Tracker):
    def __init__(self, place, sweep):
        pass

    def write(self, sweep, records, outcome=None):
        raise ZeroDivisionError("no luck")


class Unwritten(UpdateAttack):
    pass


class Nothing(Attack):
    pass


class LikeMean(Mean):
    pass


class Other(UpdateAttack):
    kind: Literal["other"] = "other"

    def updates(self, updates, malicious, active, generators):
        return updates


class Loose(UpdateAttack, frozen=False):
    def updates(self, updates, malicious, active, generators):
        return updates


class Unordered(Other):
    kind: str = "unordered"
    layers: tuple[frozenset[str], ...] = (frozenset({"first", "last"}),)


class Drawn(Other):
    kind: str = "drawn"
    size: float = Field(default_factory=lambda: np.random.default_rng().random())


class Odd(UpdateAttack):
    size: int = "many"

    def updates(self, updates, malicious, active, generators):
        return updates


def function():
    pass
'''


def read(*overrides: str) -> LoadedScenario:
    return resolve(Document.parse(SMALL, "s.yaml"), overrides)


def ran(*overrides: str) -> RunRecord:
    (record,) = run_block(plan(read(*overrides)).blocks[0])
    return record
