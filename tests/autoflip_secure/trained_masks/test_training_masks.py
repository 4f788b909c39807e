"""Masks that clients train, in both trainers: the numbers of the slow loop, whoever is stacked beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hand_masks import MaskByHand
from sizes import crossed
from slow_training import Gain, data, group_norm, jobs_of, made, mlp
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import (
    ClientJob,
    PrivateSteps,
    RoundRule,
    Scoring,
    SeedView,
    TrainedMask,
    TrainingSchedule,
    straight_through,
)
from autoflip_secure.local_rules.one_shot import OneShot
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.fedmask import FedMask
from autoflip_secure.pruning.fedpm import FedPM
from autoflip_secure.pruning.signed_constant import signed_constants
from autoflip_secure.seeds import generator
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer
from autoflip_secure.training.scored import Scored

TRAINERS: list[Trainer] = [StackedTrainer(), SequentialTrainer(private=fit)]
SGD = TrainingSchedule(lr=0.5, momentum=0.6, weight_decay=0.01, batch_size=16, epochs=3)
ADAM = TrainingSchedule(optimizer="adam", lr=0.1, batch_size=10, epochs=2)


def theta_of(pruner: TrainedMask, layout: Layout, module: nn.Module, seed: int = 0) -> Tensor:
    return pruner.begin(SeedView(layout, layout.vector(module), lambda *address: generator(seed, *address))).theta


def scored(
    jobs: list[ClientJob], pruner: TrainedMask, layout: Layout, module: nn.Module, rule: OneShot | None
) -> list[ClientJob]:
    """Own theta, own scores; what is no score begins where the job does."""
    found = []
    for number, job in enumerate(jobs):
        where = layout.where(*(one for one in layout if one.trained and pruner.role(one) == "scored"))
        scores = torch.randn(layout.size, generator=torch.Generator().manual_seed(number))
        start, mask = torch.where(where, scores, job.start), job.mask
        own = None if rule is None else RoundRule(rule, 1, 9)
        if mask is not None:
            mask = mask | ~layout.where(*(one for one in layout if one.kind == "weight"))
        scoring = Scoring(pruner, theta_of(pruner, layout, module, number % 2))
        found.append(replace(job, start=start, mask=mask, rule=own, scoring=scoring))
    return found


@pytest.mark.parametrize(
    ("pruner", "rule", "schedule", "make", "masks", "trainer"),
    crossed(
        6,
        {
            "fedpm": (FedPM(), None),
            "fedmask": (FedMask(), OneShot(strength=5.0, target_density=0.2, sparsity=0.3)),
            "no rule": (FedMask(), None),
        },
        {"sgd": SGD, "adam": ADAM},
        {"mlp": mlp, "gain": Gain, "group norm": group_norm},
        {"whole": False, "masked": True},
        {trainer.kind: trainer for trainer in TRAINERS},
    ),
)
def test_both_trainers_equal_the_loop_by_hand(
    pruner: TrainedMask, rule: OneShot | None, schedule: TrainingSchedule, make: Callable[[], nn.Module],
    masks: bool, trainer: Trainer,
) -> None:  # fmt: skip
    module, layout = made(make)
    if rule is not None and make is Gain:  # nothing but the output layer
        module, layout = made(mlp)
    x, y = data()
    jobs = scored(jobs_of(layout, module, y, [5, 37, 16], masks=masks), pruner, layout, module, rule)
    trained = trainer.train(module, layout, x, jobs, schedule)
    assert (trained.masks is None) == (rule is None)
    for row, job in enumerate(jobs):
        end, held = MaskByHand(module, layout, x, job, schedule).run()
        start = job.start if job.mask is None else torch.where(job.mask, job.start, 0.0)
        still = layout.where(*(one for one in layout if one.trained and pruner.role(one) == "fixed"))
        update = torch.where(still, trained.updates[row], end - start)  # never sent, whatever weight decay does to it
        tolerance = 1e-3 if schedule.optimizer == "adam" else 3e-5  # it divides by the size of the gradient
        torch.testing.assert_close(trained.updates[row], update, atol=tolerance, rtol=1e-4)
        assert float(update.abs().max()) > 1e-3
        if trained.masks is not None:
            assert torch.equal(trained.masks[row], held)
            assert not bool(held.all())


def test_a_job_has_the_same_bits_whoever_is_stacked_beside_it() -> None:
    module, layout = made(mlp)
    x, y = data()
    plain = jobs_of(layout, module, y, [(7 * k) % 45 + 1 for k in range(12)], masks=True)
    jobs = [
        scored([job], pruner, layout, module, rule)[0] if pruner is not None else job
        for job, (pruner, rule) in zip(plain, 4 * [(None, None), (FedPM(), None), (FedMask(), OneShot())], strict=True)
    ]
    trainer = StackedTrainer()
    together = trainer.train(module, layout, x, jobs, SGD)
    backwards = StackedTrainer(budget=1).train(module, layout, x, jobs[::-1], SGD)
    assert torch.equal(backwards.updates.flip(0), together.updates)
    for row in (0, 1, 2, 7):
        assert torch.equal(trainer.train(module, layout, x, [jobs[row]], SGD).updates[0], together.updates[row])
    without = trainer.train(module, layout, x, plain[::3], SGD)
    assert torch.equal(without.updates, together.updates[::3])


def test_no_exponential_is_left_over_at_the_end_of_a_stack() -> None:
    layout = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 7)))[1]
    pruner, segments = FedPM(), list(layout)
    source, count = torch.Generator().manual_seed(1), 200
    theta, scores, uniform = (torch.randn(count, layout.size, generator=source) for _ in range(3))

    def slopes(models: int) -> Tensor:
        def tensors(rows: Tensor) -> list[Tensor]:
            return [rows[:models, one.slice].reshape(models, *one.shape) for one in segments]

        leaves = [leaf.clone().requires_grad_() for leaf in tensors(scores)]
        weights = Scored(Scoring(pruner, theta[0]), segments, tensors(theta)).weights(leaves, None, tensors(uniform))
        found = torch.autograd.grad(sum(one.sum() for one in weights), leaves)  # type: ignore[arg-type]
        return torch.cat([one.reshape(models, -1) for one in found], 1)

    everybody = slopes(count)
    for models in range(1, count, 3):
        assert torch.equal(slopes(models), everybody[:models])


def test_a_rule_about_what_is_trained_is_about_scores() -> None:
    module, layout = made(mlp)
    x, y = data()
    jobs = scored(jobs_of(layout, module, y, [30, 20]), FedMask(), layout, module, None)
    pulled = [replace(job, rule=RoundRule(Proximal(mu=50.0), 1, 2)) for job in jobs]
    gentle = TrainingSchedule(lr=0.01, batch_size=10, epochs=4)
    free, near = (StackedTrainer().train(module, layout, x, each, gentle).updates for each in (jobs, pulled))
    assert float(near.norm()) < 0.5 * float(free.norm())
    torch.testing.assert_close(SequentialTrainer().train(module, layout, x, pulled, gentle).updates, near)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.kind)
def test_dp_sgd_on_scores_is_refused(trainer: Trainer) -> None:
    module, layout = made(mlp)
    (x, y), rows = data(12), torch.arange(12)
    job = ClientJob(layout.vector(module), rows, y[rows], 0, (1, 0), private=PrivateSteps(1.0, 1.0))
    job = replace(job, scoring=Scoring(FedPM(), layout.vector(module)))
    with pytest.raises(InputError, match="FedPM trains masks, and DP-SGD clips gradients of weights"):
        trainer.train(module, layout, x, [job], TrainingSchedule(epochs=1, batch_size=4))


def test_straight_through_is_hard_forward_and_smooth_back() -> None:
    scores = torch.tensor([-3.0, -1e-9, 0.0, 2.0], requires_grad=True)
    found = straight_through((scores >= 0).float(), scores.sigmoid())
    assert found.tolist() == [0.0, 0.0, 1.0, 1.0]
    found.sum().backward()
    chance = torch.tensor([-3.0, -1e-9, 0.0, 2.0]).sigmoid()
    torch.testing.assert_close(scores.grad, chance * (1 - chance))


def test_signed_constants_have_the_scale_of_their_layer() -> None:
    module, layout = made(group_norm)
    view = SeedView(layout, layout.vector(module), lambda *address: generator(3, *address))
    theta = layout.tensors(signed_constants(view, 2.0, lambda one: one.kind in ("weight", "bias")))
    sizes = {"0.weight": 2 / 3, "0.bias": 2 / 3, "4.weight": 2 / 216**0.5, "1.weight": 1.0, "1.bias": 0.0}  # 1 x 3 x 3
    for name, size in sizes.items():
        torch.testing.assert_close(theta[name].abs(), torch.full_like(theta[name], size))
    assert 0.4 < float((theta["4.weight"] > 0).float().mean()) < 0.6
