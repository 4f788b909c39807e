"""Channels that privacy or secure sums do not cover are refused before anything runs; plug-ins that ask are tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    Channel,
    ChannelRequest,
    ClientView,
    Pruner,
    PruneView,
    RoundView,
    UpdateAttack,
)
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.data.datasets import Digits
from autoflip_secure.scenarios.models.chains import Mlp
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.plugin_trial import Stage, try_out

SMALL = """
name: small
clients: 6
cohort: 3
rounds: 4
training: {epochs: 1, batch_size: 16}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
algorithm: {name: own, pruner: {kind: taylor, every: 2, until: 1.0}, aggregator: mean}
seeds: [3]
"""
OWN = '''
from typing import Literal

from autoflip_secure.interfaces import Aggregate, Aggregator, Channel, Pruner


class Rows(Pruner):
    """Asks for rows."""

    needs: Literal["sum", "rows"] = "rows"
    bound: float | None = 1.0
    bits: Literal[1, 16, 32] = 32

    def wants(self, asked):
        return (Channel("votes", 3, self.needs, self.bound, self.bits),)

    def measure(self, channel, view):
        return view.updates[:, :3]

    def mask(self, view):
        return view.mask
'''


def blocks(text: str, *overrides: str) -> Any:
    return plan(resolve(Document.parse(text, "s.yaml"), overrides)).blocks


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["privacy.kind=sample_level"], "DP-SGD covers updates alone"),
        (["privacy.kind=client_level"], "give algorithm.pruner.bound, use another pruner, or privacy: none"),
    ],
)
def test_taylor_is_refused_where_its_reports_are_not_protected(overrides: list[str], said: str) -> None:
    with pytest.raises(InputError) as error:
        check(blocks(SMALL, *overrides))
    assert said in str(error.value)
    assert "the pruner taylor has clients send units beside their update" in str(error.value)
    check(blocks(SMALL, "algorithm.pruner.bound=0.05", "privacy.kind=client_level"))  # and so it goes


@pytest.mark.parametrize(
    ("options", "overrides", "said"),
    [
        ("", ["secure_sum.updates=true"], "secure_sum.updates = true: the pruner own_rows:Rows has clients send votes"),
        ("", ["privacy.kind=client_level"], "of which the server needs every client's"),
        ("needs: sum, bits: 16", ["privacy.kind=client_level"], "in 16 bits a number"),
        ("needs: sum, bound: null", ["privacy.kind=client_level"], "without a bound"),
    ],
)
def test_a_channel_from_outside_is_refused_with_the_reason(
    options: str, overrides: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_rows.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = f'{{kind: "own_rows:Rows"{", " * bool(options)}{options}}}'
    text = SMALL.replace("{kind: taylor, every: 2, until: 1.0}", own)
    with pytest.raises(InputError) as error:
        check(blocks(text, *overrides))
    assert said in str(error.value)


def test_a_channel_from_outside_runs_in_the_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rows.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = SMALL.replace("{kind: taylor, every: 2, until: 1.0}", '{kind: "own_rows:Rows"}')
    (work,) = blocks(text, "attack.kind=gaussian_noise", "attack.scope=0.5")
    check([work])
    (record,) = run_block(work)
    assert record.costs.channels == {"votes": 4 * 3 * (10 + 12)}


@pytest.fixture(scope="module")
def stage() -> Stage:
    data = Digits(train_samples=120, test_samples=50).load()
    module = Mlp(hidden=(8,)).build(data.x_train[:2], 10, 0)
    layout = Layout.of(module)
    chain = Chain.of(module, data.x_train[:1])
    return Stage(data, layout, chain, layout.vector(module), 6, 4, 5, None, (Channel("votes", 3),))


class Asking(Pruner):
    kind: Literal["asking"] = "asking"
    channels: ClassVar[Any] = (Channel("votes", 3),)

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        return self.channels if asked.round == 3 else ()

    def measure(self, channel: Channel, view: ClientView) -> Tensor:
        return self.own(view)

    def own(self, view: ClientView) -> Tensor:
        return (view.gradients() * view.start)[:, :3]

    def mask(self, view: PruneView) -> Tensor:
        if "votes" in view.channels:
            assert view.round == 3
            return view.mask & (torch.arange(len(view.mask)) > int(view.channels["votes"].mean.argmax()))
        return view.mask


class Sure(Asking):
    pass


class Long(Asking):
    def own(self, view: ClientView) -> Tensor:
        return view.updates


class Compares(Asking):
    def own(self, view: ClientView) -> Tensor:
        return (view.updates - view.updates.mean(0))[:, :3]


class Spoils(Asking):
    def own(self, view: ClientView) -> Tensor:
        return view.updates.neg_()[:, :3]


class Unnamed(Asking):
    channels: ClassVar[Any] = (Channel("update", 3),)


class Empty(Asking):
    channels: ClassVar[Any] = (Channel("votes", 0),)


class NoTuple(Asking):
    channels: ClassVar[Any] = [Channel("votes", 3)]


class Silent(Asking):
    def measure(self, channel: Channel, view: ClientView) -> Tensor:
        return Pruner.measure(self, channel, view)


class Remembers(Asking):
    client_rows: ClassVar[Any] = {"seen": "numbers"}

    def accumulates(self, asked: ChannelRequest) -> frozenset[Any]:
        return frozenset({"gradients"})

    def own(self, view: ClientView) -> Tensor:
        return (view.states["seen"] + view.gradient_sum())[:, :3]

    def next_rows(self, view: ClientView) -> Any:
        return {"seen": view.states["seen"] + view.gradient_sum()}


class Strange(Remembers):
    def next_rows(self, view: ClientView) -> Any:
        return {"other": view.updates}


class Shared(Remembers):
    def next_rows(self, view: ClientView) -> Any:
        return {"seen": view.updates.mean(0).expand_as(view.updates)}


class Kind(Remembers):
    client_rows: ClassVar[Any] = {"seen": "words"}


class Cubes(Remembers):
    def accumulates(self, asked: ChannelRequest) -> Any:
        return {"cubes"}


class Voted(Aggregator):
    kind: Literal["voted"] = "voted"

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        return (Channel("votes", 1, "rows"),)

    def measure(self, channel: Channel, view: ClientView) -> Tensor:
        return view.updates.abs().amax(1, keepdim=True)

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        votes = view.channels["votes"].rows
        assert votes is not None
        assert len(votes) == len(view.updates)
        trust = votes[:, 0] / votes.sum()
        return Aggregate(trust @ view.updates, trust, None)


class Everybody(UpdateAttack):
    kind: Literal["everybody"] = "everybody"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        return torch.where(malicious[:, None], -updates, updates)

    def channel(self, channel: Channel, rows: Tensor, malicious: Tensor, generators: Any) -> Tensor:
        return -rows


class Wide(Everybody):
    def channel(self, channel: Channel, rows: Tensor, malicious: Tensor, generators: Any) -> Tensor:
        return rows[:, :1]


class Fits(Everybody):
    def channel(self, channel: Channel, rows: Tensor, malicious: Tensor, generators: Any) -> Tensor:
        return UpdateAttack.channel(self, channel, rows, malicious, generators)


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (Sure(), ""), (Voted(), ""), (Fits(), ""), (Long(), "measure of the channel votes gives shape"),
        (Compares(), "a client's row depends on other clients"), (Spoils(), "changes what it is shown in place"),
        (Unnamed(), "give each a name of its own"), (Empty(), "at least one number"),
        (NoTuple(), "wants should give a tuple of Channel"), (Silent(), "without a `measure`"),
        (Remembers(), ""), (Strange(), "next_rows gives 'other'"), (Shared(), "row depends on other clients"),
        (Kind(), "client_rows has 'seen': 'words'"), (Cubes(), "accumulates should give a frozenset"),
        (Everybody(), "changes rows of honest clients"), (Wide(), "channel (rows of votes) gives shape"),
    ],
    ids=lambda one: type(one).__name__ if not isinstance(one, str) else "",
)  # fmt: skip
def test_what_a_plugin_asks_clients_for_is_tried_before_a_run(plugin: Any, said: str, stage: Stage) -> None:
    if not said:
        try_out("x.kind = 'tried'", plugin, stage)
        return
    with pytest.raises(AutoflipError) as error:
        try_out("x.kind = 'tried'", plugin, stage)
    assert said in str(error.value)
