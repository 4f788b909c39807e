"""FedRTS: votes, posteriors and draws, written out weight by weight; what travels; what one vote can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import cos, floor, pi
from typing import Any, Literal

import numpy as np
import pytest
import torch
from digits_cells import PROBLEM, cell
from moving_masks import HIDDEN, LAYOUT, counts, gradient, shares, watched
from sizes import sized
from torch import Tensor

from autoflip_secure.federation.engine import run_cells
from autoflip_secure.interfaces import Channel, Pruner, PruneView, Received, UpdateAttack
from autoflip_secure.pruning.erk import RandomErk
from autoflip_secure.pruning.fedrts import FedRTS
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer

RULE = FedRTS(density=0.3, every=2, until=0.8, share=0.5, client_weight=0.75, strength=4.0)  # T is 8 of 10 rounds
MOVES, LAST = (2, 4, 6), 6


def best(values: dict[int, float], count: int) -> set[int]:
    return set(sorted(values, key=lambda i: (-values[i], i))[:count])


def test_votes_posteriors_and_masks_are_those_of_the_specification() -> None:
    one = cell(rounds=10, pruner=RULE)
    _, seen = watched(one)
    assert sorted(seen.rows) == list(range(1, LAST + 1))
    first = seen.before[1]
    assert torch.equal(first.mask, watched(cell(rounds=1, pruner=RandomErk(density=0.3)))[1].before[1].mask)
    alpha, beta = [1.0] * LAYOUT.size, [1.0] * LAYOUT.size
    for number in range(1, 11):
        before, after = seen.before[number], seen.after[number]
        if number > LAST:
            assert torch.equal(after.mask, before.mask)
            assert torch.equal(after.memory["alpha"], before.memory["alpha"])
            continue
        moves, sent = number in MOVES, seen.rows[number]["votes"]
        voted = LAYOUT.prunable if moves else LAYOUT.prunable & before.mask
        votes = torch.zeros(len(sent), LAYOUT.size)
        votes[:, voted] = sent
        starts, p = before.weights * before.mask, shares(one, seen.clients[number])
        model, alive = (starts + p @ seen.updates[number]).abs().tolist(), before.mask.tolist()
        ballots = [{i for i, vote in enumerate(row) if vote > 0} for row in votes.tolist()]
        for segment in LAYOUT.hidden:
            places = range(segment.start, segment.stop)
            live = [i for i in places if alive[i]]
            moved = floor(0.25 * (1 + cos(pi * number / 8)) * len(live))
            kept = best({i: model[i] for i in live}, len(live) - moved)
            for row, (client, update) in enumerate(zip(seen.clients[number], seen.updates[number], strict=True)):
                ends = starts + update
                sizes = ends.abs().tolist()
                assert ballots[row] & {*live} == best({i: sizes[i] for i in live}, len(live) - moved)
                if moves:
                    slopes, dead = gradient(one, ends, client, number).tolist(), [i for i in places if not alive[i]]
                    grow = best({i: abs(slopes[i]) for i in dead}, moved)
                    assert len((ballots[row] & {*dead}) ^ grow) <= 2  # slopes equal but for a bit
            mean = (p @ votes).tolist()
            for i in places:
                if alive[i]:
                    x = 0.25 * (i in kept) + 0.75 * mean[i]
                elif moves:
                    x = 0.25 / 2 + 0.75 * mean[i]
                else:
                    continue
                alpha[i] += 4 * x
                beta[i] += 4 * (1 - x)
        assert torch.allclose(after.memory["alpha"], torch.tensor(alpha), atol=1e-3)
        assert torch.allclose(after.memory["beta"], torch.tensor(beta), atol=1e-3)
        alpha, beta = (after.memory[name].tolist() for name in ("alpha", "beta"))
        assert counts(after.mask) == counts(first.mask)
        if not moves:
            assert torch.equal(after.mask, before.mask)
            continue
        for place, segment in enumerate(LAYOUT.hidden):
            source = np.random.default_rng(generator(0, Purpose.PRUNING, number, place).initial_seed())
            own = slice(segment.start, segment.stop)
            draws = source.beta(np.array(alpha[own]), np.array(beta[own]))
            drawn = best(dict(enumerate(draws.tolist())), int(before.mask[own].sum()))
            assert {i for i, live in enumerate(after.mask[own].tolist()) if live} == drawn


def view(memory: Mapping[str, Tensor], seed: int, **more: Any) -> PruneView:
    mask = RandomErk(density=0.3).mask(_base(seed=0, round=0))
    return replace(_base(seed=seed, round=2), memory=memory, mask=mask, **more)


def _base(seed: int, **more: Any) -> PruneView:
    settings: dict[str, Any] = {
        "layout": LAYOUT, "units": None, "weights": PROBLEM.initial, "exploration": None, "guidance": None,
        "mask": torch.ones(LAYOUT.size, dtype=torch.bool), "rounds": 10,
        "generator": lambda *address: generator(seed, Purpose.PRUNING, *address),
    }  # fmt: skip
    return PruneView(**(settings | more))


def test_a_weight_that_is_surely_good_is_drawn_and_even_posteriors_draw_evenly() -> None:
    """Beta(1, 1) for all: each weight of a tensor lives with the tensor's density."""
    even = {"alpha": torch.ones(LAYOUT.size), "beta": torch.ones(LAYOUT.size)}
    votes = {"votes": Received(torch.zeros(HIDDEN))}
    times = torch.zeros(LAYOUT.size)
    runs = sized(60, 600)
    for seed in range(runs):
        times += RULE.mask(view(even, seed, channels=votes))
    for segment, count in zip(LAYOUT.hidden, counts(view(even, 0).mask), strict=True):
        size = segment.stop - segment.start
        mean, spread = times[segment.slice].mean() / runs, times[segment.slice].var()
        assert float(mean) == pytest.approx(count / size, abs=1e-6)
        assert float(spread) == pytest.approx(runs * count / size * (1 - count / size), rel=0.25)  # binomial
    good = LAYOUT.prunable.nonzero().squeeze(1)[:5]
    sure = {"alpha": torch.ones(LAYOUT.size), "beta": torch.full((LAYOUT.size,), 5.0)}
    sure["alpha"][good] = 1e6
    assert bool(RULE.mask(view(sure, 1, channels=votes))[good].all())


def test_what_it_remembers_is_not_changed_in_place_and_stays_where_votes_fail() -> None:
    memory = {"alpha": torch.ones(LAYOUT.size), "beta": torch.ones(LAYOUT.size)}
    seen = view(memory, 0, channels={"votes": Received(torch.full((HIDDEN,), 0.5))})
    found = RULE.remember(seen)
    assert torch.equal(memory["alpha"], torch.ones(LAYOUT.size))
    assert not torch.equal(found["alpha"], memory["alpha"])
    assert RULE.remember(view(memory, 0)) is memory
    assert torch.equal(RULE.mask(view(memory, 0)), view(memory, 0).mask)


def test_bits_travel_a_live_weight_each_and_a_hidden_one_where_the_mask_moves() -> None:
    record = watched(cell(rounds=10, pruner=RULE))[0]
    live = round(0.3 * HIDDEN)
    sizes = [HIDDEN if number in MOVES else live for number in range(1, LAST + 1)]
    assert [entry.channels for entry in record.rounds] == [
        *({"votes": 4 * (10 + (size + 7) // 8)} for size in sizes), *[None] * 4,
    ]  # fmt: skip


class Stuffed(UpdateAttack):
    """Honest updates; votes for the last ten hidden weights alone, as loud as it can."""

    kind: Literal["stuffed"] = "stuffed"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        return updates

    def channel(self, channel: Channel, rows: Tensor, malicious: Tensor, generators: Any) -> Tensor:
        lie = torch.zeros_like(rows)
        lie[:, -10:] = 1e9
        return torch.where(malicious[:, None], lie, rows)


def test_the_loudest_vote_is_one_bit_and_a_majority_of_liars_decides() -> None:
    rule = RULE.model_copy(update={"client_weight": 1.0, "strength": 1e5})
    last = LAYOUT.prunable.nonzero().squeeze(1)[-10:]
    one, most = (
        watched(cell(rounds=4, cohort=10, pruner=rule, attack=Stuffed(clients=clients)))[1]
        for clients in ((0,), tuple(range(9)))
    )
    assert set(one.rows[2]["votes"].unique().tolist()) == {0.0, 1.0}
    alpha = one.after[2].memory["alpha"] - one.before[2].memory["alpha"]
    honest = one.rows[2]["votes"][1:, -10:].mean(0) * 0.9
    assert torch.allclose(alpha[last] / 1e5, honest + 0.1, atol=1e-3)  # a tenth, and no more
    assert bool(most.after[2].mask[last].all())
    assert not bool(one.after[2].mask[last].all())


class Counts(Pruner):
    """Remembers how often it was asked."""

    kind: Literal["counts"] = "counts"

    def remember(self, view: PruneView) -> Mapping[str, Tensor]:
        return {"times": view.memory.get("times", torch.zeros(1)) + 1}

    def mask(self, view: PruneView) -> Tensor:
        assert int(view.memory["times"]) == view.round + 1  # what was remembered in this very round
        return view.mask


def test_any_pruner_remembers_from_round_to_round_and_cells_do_not_share_it() -> None:
    trainer = choose_trainer(PROBLEM.module, LAYOUT, PROBLEM.x_train[:1])
    run_cells([cell("a", rounds=3, pruner=Counts()), cell("b", seed=1, rounds=3, pruner=Counts())], trainer)
    _, seen = watched(cell(rounds=3, pruner=Counts()))
    assert int(seen.after[3].memory["times"]) == 4
    assert watched(cell(rounds=1))[1].after[1].memory == {}


@pytest.mark.slow
def test_a_cell_has_the_same_numbers_alone_and_beside_others() -> None:
    trainer = choose_trainer(PROBLEM.module, LAYOUT, PROBLEM.x_train[:1])
    one = cell(rounds=6, pruner=RULE, attack=Stuffed(clients=(1,)))
    alone = run_cells([one], trainer)[0]
    others = [cell("a", seed=3, rounds=6, pruner=FedRTS(every=1)), cell("b", seed=1, rounds=6)]
    assert run_cells([*others, one], trainer)[-1].numbers() == alone.numbers()
