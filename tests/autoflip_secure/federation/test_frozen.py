"""Frozen parameters: a model with them is, number by number, the model whose coordinates are the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from sklearn.datasets import load_digits
from torch import Tensor, nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.algorithm.radial_agreement import RadialAgreement, radial_cosine
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.defenses.privacy.module_checks import fixed
from autoflip_secure.defenses.secure_aggregation.scored_updates import score_secretly
from autoflip_secure.federation.cell import Cell, Problem, Protocol
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.server import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import Aggregate, ClientJob, Pruner, PruneView, RoundView, Trained, TrainingSchedule
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.budget import BudgetMask, kept_counts
from autoflip_secure.pruning.none import NoPruning
from autoflip_secure.pruning.random import RandomUnits, RandomWeights
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.audits import clients as audit_clients
from autoflip_secure.scenarios.audits.claims import audited, claim
from autoflip_secure.scenarios.audits.labels import label_inference
from autoflip_secure.scenarios.audits.view import Views
from autoflip_secure.secure_rows.secret_rows import LocalRows
from autoflip_secure.secure_rows.secure_sum import Revealed, Scored, SecureSum, SecureSumConfig, SharedBatch, Traffic
from autoflip_secure.training import SequentialTrainer, Trainer, choose_trainer

X, Y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
X, Y = X.float().view(-1, 1, 8, 8) / 16, Y.long()
CLIENTS = 6


def network(frozen: Sequence[str] = (), *, norm: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        middle = (nn.BatchNorm1d(12),) if norm else ()
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), *middle, nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 10)
        )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return module


NAMES = [name for name, _ in network().named_parameters()]


def problem(module: nn.Module, *, chain: bool = False) -> Problem:
    layout, parts = Layout.of(module), np.array_split(np.random.default_rng(0).permutation(120), CLIENTS)
    return Problem(
        module=module,
        layout=layout,
        chain=Chain.of(module, X[:1]) if chain else None,
        chain_reason="ok" if chain else "not asked",
        x_train=X[:120],
        y_train=Y[:120],
        x_test=X[200:300],
        y_test=Y[200:300],
        num_classes=10,
        clients=tuple(torch.from_numpy(p) for p in parts),
        initial=layout.vector(module),
    )


def cells(of: Problem, *protocols: dict[str, Any]) -> list[Cell]:
    usual: dict[str, Any] = {"rounds": 3, "cohort": 3, "pruner": NoPruning(), "aggregator": Mean()}
    usual |= {"training": TrainingSchedule(epochs=1, lr=0.3), "exploration": ExplorationConfig(epochs=1)}
    names = [str(number) for number in range(len(protocols))]
    return [
        Cell(name, {"name": name}, {}, name, 0, of, Protocol(**(usual | own)))
        for name, own in zip(names, protocols, strict=True)
    ]


def narrowed(layout: Layout) -> Layout:
    """The same meanings, with frozen tensors no coordinates at all."""
    left = [segment for segment in layout if not segment.frozen]
    stops = list(accumulate(segment.stop - segment.start for segment in left))
    return Layout(
        tuple(replace(s, start=start, stop=stop) for s, start, stop in zip(left, [0, *stops], stops, strict=False))
    )


class Narrow(Trainer):
    """Trains the whole model where nobody else knows of frozen weights."""

    kind = "stacked"

    def __init__(self, trainer: Trainer, whole: Problem) -> None:
        super().__init__()
        self.trainer, self.whole, self.sent = trainer, whole, whole.layout.sent

    def train(
        self, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: TrainingSchedule
    ) -> Trained:
        wide = [replace(j, start=self.put(j.start), mask=None if j.mask is None else self.all(j.mask)) for j in jobs]
        trained = self.trainer.train(module, self.whole.layout, x, wide, schedule)
        return replace(trained, updates=trained.updates[:, self.sent])

    def put(self, vector: Tensor) -> Tensor:
        return self.whole.initial.masked_scatter(self.sent, vector)

    def all(self, mask: Tensor) -> Tensor:
        return torch.ones_like(self.sent).masked_scatter(self.sent, mask)


class Memory(Watcher):
    """The last state of each cell, and what was sent."""

    def __init__(self) -> None:
        self.states: dict[str, ServerState] = {}
        self.rows: dict[str, list[Tensor]] = {}

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.states[cell.key] = after
        self.rows.setdefault(cell.key, []).append(sent)


def trainer_for(of: Problem) -> Trainer:
    return choose_trainer(of.module, of.layout, X[:1])


def numbers(record: RunRecord) -> dict[str, Any]:
    """What does not depend on whether frozen tensors have coordinates; downlinks are counted by hand elsewhere."""
    found = record.numbers()
    for part in (*found["rounds"], found["costs"], *([found["exploration"]] if found["exploration"] else [])):
        part["bytes"] = {key: value for key, value in part["bytes"].items() if key.startswith("uplink")}
    return {key: value for key, value in found.items() if key not in ("trainer", "events", "digests", "layers")}


def alike(one: Any, other: Any, path: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            alike(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other, strict=True)):
            alike(*pair, f"{path}[{number}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5), path
    else:
        assert one == other, path


some_frozen = st.sets(st.sampled_from(NAMES), min_size=1, max_size=len(NAMES) - 1)

ALGORITHMS: list[dict[str, Any]] = [
    {"attack": LabelFlip(scope=0.3)},
    {"pruner": ThresholdMask(refine_every=1), "aggregator": AgreementWeighted(), "attack": LabelFlip(scope=0.3)},
    {"pruner": ThresholdMask(refine_every=2), "aggregator": AgreementWeighted(statistics=("profile", "sign", "size"))},
    {"pruner": ThresholdMask(growth=0.3, threshold=0.5), "aggregator": RadialAgreement()},
    {"aggregator": RadialAgreement(noise="norm"), "exploration": ExplorationConfig(epochs=1, method="linear")},
    {"aggregator": AgreementWeighted(), "exploration": ExplorationConfig(epochs=1, method="plain")},
    {"aggregator": CenteredClipping(steps=2)},
]


@settings(max_examples=sized(1, 40))
@given(frozen=some_frozen, norm=st.booleans())
def test_a_run_equals_the_run_of_a_model_without_the_frozen_coordinates(frozen: set[str], norm: bool) -> None:
    names = sorted(frozen) if not norm else sorted({f"{int(n[0]) + (n[0] > '1')}{n[1:]}" for n in frozen})
    whole = problem(network(names, norm=norm))
    sent, trainer = whole.layout.sent, SequentialTrainer()
    assert int(sent.sum()) == sum(t.numel() for n, t in whole.module.named_parameters() if n not in names) + 24 * norm
    alone = replace(whole, layout=narrowed(whole.layout), initial=whole.initial[sent])
    seen, apart = Memory(), Memory()
    records = run_cells(cells(whole, *ALGORITHMS), trainer, watch=seen)
    oracle = run_cells(cells(alone, *ALGORITHMS), Narrow(trainer, whole), watch=apart)
    for ours, theirs in zip(records, oracle, strict=True):
        alike(numbers(ours), numbers(theirs))
        mine, other = seen.states[ours.cell], apart.states[theirs.cell]
        torch.testing.assert_close(mine.weights[sent], other.weights, rtol=1e-3, atol=1e-5)
        assert torch.equal(mine.weights[~sent], whole.initial[~sent])
        assert torch.equal(mine.mask[sent], other.mask)
        assert mine.mask[~sent].all()
        assert not torch.stack([rows[:, ~sent].any() for rows in seen.rows[ours.cell]]).any()
        if mine.guidance is not None and other.guidance is not None:
            torch.testing.assert_close(mine.guidance.energy[sent], other.guidance.energy, rtol=1e-3, atol=1e-7)
            assert not mine.guidance.energy[~sent].any()


def test_each_client_gets_frozen_parameters_once() -> None:
    """1.weight and 1.bias are frozen: 780 of 974 numbers; a header has 14 bytes."""
    whole = problem(network(["1.weight", "1.bias"]))
    protocols = {"rounds": 5}, {"rounds": 5, "aggregator": AgreementWeighted()}
    plain, guided = run_cells(cells(whole, *protocols), trainer_for(whole))
    message, frozen = 14 + 4 * 194, 4 * 780
    met: set[int] = set()
    for entry in plain.rounds:
        new = set(entry.participants) - met
        met |= new
        assert entry.bytes.uplink_values == 3 * message
        assert entry.bytes.downlink_values == 3 * message + len(new) * frozen
    assert guided.exploration is not None
    assert guided.exploration.bytes.uplink_values == CLIENTS * message
    assert guided.exploration.bytes.downlink_values == CLIENTS * (message + frozen)
    assert all(entry.bytes.downlink_values == 3 * message for entry in guided.rounds)
    assert plain.parameters == 194
    assert plain.events[0].startswith("frozen: 780 of 974 numbers")


def test_running_statistics_of_a_frozen_backbone_still_move_and_travel() -> None:
    names = ["1.weight", "1.bias", "2.weight", "2.bias"]
    whole = problem(network(names, norm=True))
    seen = Memory()
    (record,) = run_cells(cells(whole, {}), SequentialTrainer(), watch=seen)
    buffers = [s for s in whole.layout if s.kind == "buffer"]
    assert [s.name for s in buffers] == ["2.running_mean", "2.running_var"]
    for segment in buffers:
        assert not segment.trained
        assert not torch.equal(seen.states["0"].weights[segment.slice], whole.initial[segment.slice])
    assert record.parameters == 8 * 12 + 8 + 80 + 10 + 24


@pytest.mark.parametrize("kind", ["stacked", "sequential"])
def test_training_leaves_frozen_weights_bit_for_bit(kind: Any) -> None:
    whole = problem(network(["1.bias", "3.weight"]))
    trainer = choose_trainer(whole.module, whole.layout, X[:1], kind)
    jobs = [ClientJob(whole.initial, rows, Y[rows], 0, (1, k)) for k, rows in enumerate(whole.clients)]
    schedule = TrainingSchedule(optimizer="adam", weight_decay=0.1)
    updates = trainer.train(whole.module, whole.layout, X, jobs, schedule).updates
    assert not updates[:, whole.layout.frozen].any()
    assert updates[:, whole.layout.trained].any(0).float().mean() > 0.8


# ------------------------------------------------------------------------------------ noise, attacks, plug-ins


@pytest.mark.parametrize("noise", ["central", "distributed"])
def test_client_level_noise_lies_where_something_travels(noise: Any) -> None:
    whole = problem(network(["1.weight", "3.bias"], norm=False))
    private = ClientLevel(noise=noise, noise_multiplier=1.0, clip=1.0)
    seen = Memory()
    own = replace(cells(whole, {"privacy": private, "rounds": 1})[0], noise_multipliers=(1.0,) * CLIENTS)
    run_cells([own], trainer_for(whole), watch=seen)
    moved = seen.states["0"].weights != whole.initial
    assert not moved[whole.layout.frozen].any()
    assert moved[whole.layout.sent].all()  # every one is noised


def test_gaussian_noise_attacks_trained_weights_alone() -> None:
    whole, seen = problem(network(["1.weight", "4.bias"], norm=True)), Memory()
    attack = {"attack": GaussianNoise(sigma=50.0, scope=1.0), "rounds": 1}
    run_cells(cells(whole, attack), SequentialTrainer(), watch=seen)
    (rows,) = seen.rows["0"]
    large = (rows.abs() > 5).any(0)
    assert not large[~whole.layout.trained].any()
    assert large[whole.layout.trained].all()
    assert not rows[:, whole.layout.frozen].any()


class Careless(Mean):
    """Moves everything."""

    kind: Any = "careless"

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        found = super().aggregate(state, view)
        return replace(found, delta=found.delta + 1)


class Cutting(Pruner):
    """Masks half of everything, and scales what is left."""

    kind: Any = "cutting"

    def mask(self, view: PruneView) -> Tensor:
        return torch.arange(len(view.mask)) % 2 == 0

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Tensor:
        return 2 * weights * new


def test_no_plug_in_can_touch_frozen_weights() -> None:
    whole = problem(network(["1.weight", "3.bias"]))
    seen = Memory()
    run_cells(cells(whole, {"pruner": Cutting(), "aggregator": Careless()}), trainer_for(whole), watch=seen)
    state, frozen = seen.states["0"], whole.layout.frozen
    assert torch.equal(state.weights[frozen], whole.initial[frozen])
    assert state.mask[frozen].all()
    assert not state.mask[~frozen].all()


class Batch(LocalRows, SharedBatch):
    """Rows in this process."""

    events, revealed = (), Revealed()

    def forget(self) -> None:
        """There is nobody who could."""


class Counting(SecureSum):
    """Parties in this process that note how long the rows are."""

    parties = 2

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def share(self, rows: Tensor, clients: tuple[int, ...]) -> Batch:
        self.lengths.append(rows.shape[1])
        return Batch(rows, clients)

    def score(
        self, aggregator: Any, state: Any, view: RoundView, honest: Tensor, draws: torch.Generator, width: int | None
    ) -> Scored:
        return score_secretly(cast("Any", self), aggregator, state, view, honest, draws, width)

    def tell(self, numbers: int) -> None:
        """What clients say of themselves takes no room in a row."""

    @property
    def traffic(self) -> Traffic:
        return Traffic(0, 0, 0, 0)


def test_secure_sums_are_as_long_as_what_is_trained() -> None:
    whole = problem(network(["1.weight", "5.bias"]))
    linear = {"exploration": ExplorationConfig(epochs=1, method="linear"), "rounds": 2}
    scored: list[Any] = [Mean(), AgreementWeighted(), RadialAgreement(noise="norm")]
    protocols = [{"aggregator": aggregator} | linear for aggregator in scored]
    secure = {"secure_sum": SecureSumConfig(parties=2, updates=True, sketch=None)}
    parties = Counting()
    open_ = run_cells(cells(whole, *protocols), trainer_for(whole))
    hidden = cells(whole, *[own | secure for own in protocols])
    shared = run_cells(hidden, trainer_for(whole), connect=lambda config: parties)
    for ours, theirs, same in zip(open_[:2], shared[:2], (2, 1), strict=True):  # then guidance sees no rows
        steps = [[entry.step_norm for entry in record.rounds[:same]] for record in (ours, theirs)]
        assert steps[0] == pytest.approx(steps[1], rel=1e-3)
    assert set(parties.lengths) == {974 - 768 - 10}
    assert len(parties.lengths) == 2 + 3 * 2  # two explore, three send updates


@pytest.mark.parametrize("affine", [True, False])
def test_a_replaced_normalisation_is_as_frozen_as_it_was(affine: bool) -> None:
    frozen, trained = nn.BatchNorm1d(4, affine=affine).requires_grad_(False), nn.BatchNorm1d(4)
    repaired = fixed(nn.Sequential(nn.Linear(3, 4), frozen, nn.Linear(4, 4), trained))
    assert [p.requires_grad for p in repaired[1].parameters()] == [False] * 2 * affine
    assert [p.requires_grad for p in repaired[3].parameters()] == [True] * 2


# ---------------------------------------------------------------------------------------------- audits


def test_canaries_have_their_length_where_something_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = problem(network(["1.weight", "1.bias"], norm=True))
    private = ClientLevel(noise="central", noise_multiplier=1.0, clip=1.0, allow_unproven=True)
    cell = replace(cells(whole, {"privacy": private, "rounds": 1})[0], noise_multipliers=(1.0,) * CLIENTS)
    planted: list[Tensor] = []
    inner = audit_clients._Canaries.__init__

    def noted(self: Any, known: Tensor, lengths: dict[int, Tensor]) -> None:
        planted.append(known)
        inner(self, known, lengths)

    monkeypatch.setattr(audit_clients._Canaries, "__init__", noted)
    claimed = claim(audited(cell), "public")
    assert claimed is not None
    audit_clients._runs(cell, claimed, "public", 1, "everything", (0, 0))
    assert planted
    trained = whole.layout.trained
    for known in planted:
        assert not known[:, ~trained].any()
        assert known.norm(dim=1).min() > 0.9  # a few of a direction's numbers lie on running statistics
        assert known[:, trained].ne(0).all()


def test_labels_are_not_guessed_from_a_frozen_output_layer() -> None:
    for frozen, readable in ((["1.weight"], True), (["5.weight"], True), (["5.weight", "5.bias"], False)):
        whole = problem(network(frozen))
        # nobody owns all classes
        few = replace(whole, clients=tuple(rows[Y[rows] < 7] for rows in whole.clients))
        (cell,) = cells(few, {"aggregator": AgreementWeighted(), "rounds": 1})
        views, trainer = Views(), trainer_for(few)
        run_cells([cell], trainer, watch=views)
        found = label_inference(cell, trainer, views)
        assert bool(found) == readable
        assert not readable or found[0].auc > 0.6


# ---------------------------------------------------------------------------------------------- units


@settings(max_examples=sized(6, 100))
@given(frozen=some_frozen, seed=st.integers(0, 10**6), density=st.floats(0.02, 0.6))
def test_closure_by_hand(frozen: set[str], seed: int, density: float) -> None:
    """Unit by unit until nothing changes; frozen weights live as long as their unit does, which they keep alive."""
    whole = problem(network(sorted(frozen)), chain=True)
    layout, chain = whole.layout, whole.chain
    mask = (torch.rand(layout.size, generator=torch.Generator().manual_seed(seed)) < density) | layout.frozen
    living = {name: view.clone() for name, view in layout.tensors(mask).items()}
    for _ in range(20):
        for weight, following in (("1.weight", "3.weight"), ("3.weight", "5.weight")):
            for unit in range(len(living[weight])):
                fed = bool(living[weight][unit].any()) or following in frozen
                if not fed or not living[following][:, unit].any():
                    living[weight][unit] = living[following][:, unit] = False
                    living[weight.replace("weight", "bias")][unit] = False
    by_hand = layout.flatten(living).bool()
    closed = chain.close(mask, layout)
    assert torch.equal(closed, by_hand | layout.frozen)
    assert torch.equal(chain.used(mask, layout) | (mask & ~layout.frozen), by_hand | (mask & ~layout.frozen))
    units = [living["1.weight"].any(1) | living["3.weight"].any(0)]
    units += [living["3.weight"].any(1) | living["5.weight"].any(0), torch.ones(10, dtype=torch.bool)]
    assert all(map(torch.equal, chain.live_units(mask, layout), units))
    if all(bool(alive.any()) for alive in units):  # the smaller model gives the same
        vector = whole.initial * closed
        smaller = compact(whole.module, chain, layout, vector, mask).eval()
        layout.load(masked := network(sorted(frozen)).eval(), vector)
        torch.testing.assert_close(smaller(X[:5]), masked(X[:5]), rtol=1e-4, atol=1e-5)
        sizes = [len(tensor) for name, tensor in smaller.named_parameters() if name.endswith("bias")]
        assert sizes == [int(alive.sum()) for alive in units]


@settings(max_examples=sized(4, 60))
@given(
    frozen=some_frozen,
    kind=st.sampled_from([ThresholdMask, BudgetMask, RandomUnits, RandomWeights]),
    threshold=st.floats(0.1, 0.7),
)
def test_pruners_leave_what_is_frozen(frozen: set[str], kind: Any, threshold: float) -> None:
    whole, seen = problem(network(sorted(frozen)), chain=True), Memory()
    protocol = {"pruner": kind(threshold=threshold), "aggregator": RadialAgreement(), "rounds": 1}
    (record,) = run_cells(cells(whole, protocol), trainer_for(whole), watch=seen)
    layout, mask = whole.layout, seen.states["0"].mask
    assert mask[layout.frozen].all()
    hidden = {"1.weight", "3.weight"} - frozen
    assert {s.name for s in layout.hidden} == hidden
    living = [layout.tensors(mask)[name].float().flatten() for name in hidden]
    assert record.rounds[-1].density == pytest.approx(float(torch.cat(living).mean()) if hidden else 1.0)
    counts = kept_counts(whole.chain, layout, threshold, 2.1)
    for count, width, around in ((counts[0], 12, ("1.weight", "3.weight")), (counts[1], 8, ("3.weight", "5.weight"))):
        assert count == width or frozen.isdisjoint(around)
    if not hidden and (kind is ThresholdMask or "5.weight" in frozen):
        assert mask.all()


def test_a_budget_is_about_what_can_be_pruned() -> None:
    """1.weight is frozen: units of the second hidden layer alone may go, which 3.weight and 5.weight depend on."""
    whole = problem(network(["1.weight"]), chain=True)
    counts = kept_counts(whole.chain, whole.layout, 0.3, 1.0)
    assert counts[0] == 12
    assert 0.55 * (96 + 80) <= counts[1] * (12 + 10) <= 0.7 * (96 + 80)


def test_with_nothing_but_normalisations_trained_the_whole_update_is_compared() -> None:
    names = [name for name, _ in network(norm=True).named_parameters() if not name.startswith("2.")]
    whole = problem(network(names, norm=True))
    assert whole.layout.layers == ()
    rows = torch.randn(3, whole.layout.size) * whole.layout.trained
    weights = whole.initial * whole.layout.trained
    expected = torch.cosine_similarity(rows, weights[None])
    torch.testing.assert_close(radial_cosine(rows, weights, whole.layout), expected)
    protocol = {"pruner": ThresholdMask(), "aggregator": RadialAgreement()}
    (record,) = run_cells(cells(whole, protocol), SequentialTrainer())
    assert record.rounds[-1].density == 1.0
    assert record.guidance is not None
    assert record.guidance.sample == []
