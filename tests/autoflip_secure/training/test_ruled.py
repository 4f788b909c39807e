"""Local rules in both trainers: the slow loop's numbers, whoever trains, and whoever is stacked beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hand_rules import RULES, ByHand, DropsAndGrows
from private_jobs import IMAGES, LABELS, built
from sizes import crossed, every
from slow_training import Gain, cnn, data, jobs_of, made, mlp
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import (
    ClientJob,
    LocalRule,
    LocalView,
    PrivateSteps,
    RoundRule,
    TrainingSchedule,
)
from autoflip_secure.local_rules.fedlex import FedLEx
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer

TRAINERS: list[Trainer] = [StackedTrainer(), SequentialTrainer(private=fit)]
SCHEDULE = TrainingSchedule(lr=0.05, momentum=0.6, weight_decay=0.1, batch_size=16, epochs=3)
PLAIN = TrainingSchedule(lr=0.1, weight_decay=0.1, batch_size=16, epochs=2)


def smooth() -> nn.Module:
    """No gradient is exactly 0, so no two are alike."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))


def ruled(jobs: list[ClientJob], rule: LocalRule, broadcast: Tensor | None = None) -> list[ClientJob]:
    return [replace(job, rule=RoundRule(rule, 4, 9, broadcast)) for job in jobs]


@pytest.mark.parametrize(
    ("rule", "schedule", "make", "masks", "trainer"),
    crossed(
        3,
        {rule: (rule, SCHEDULE) for rule in RULES} | {"no momentum": ("proximal", PLAIN)},
        {"smooth": smooth, "gain": Gain},
        {"dense": False, "masked": True},
        {trainer.kind: trainer for trainer in TRAINERS},
    ),
)
def test_every_hook_equals_the_loop_by_hand(
    rule: str, schedule: TrainingSchedule, make: Callable[[], nn.Module], masks: bool, trainer: Trainer
) -> None:
    module, layout = made(make)
    x, y = data()
    alive = layout.where(*(segment for segment in layout if segment.shape == ()))  # else all gradients are 0, and alike
    jobs = [
        job if job.mask is None else replace(job, mask=job.mask | alive)
        for job in jobs_of(layout, module, y, [5, 37, 16], masks=masks)
    ]
    trained = trainer.train(module, layout, x, ruled(jobs, RULES[rule]), schedule)
    plain = trainer.train(module, layout, x, jobs, schedule)
    assert (trained.masks is None) == (rule != "drops_and_grows")
    for row, job in enumerate(jobs):
        update, mask = ByHand(module, layout, x, job, schedule).run(rule)
        torch.testing.assert_close(trained.updates[row], update, atol=1e-5, rtol=0)
        if trained.masks is not None:
            assert torch.equal(trained.masks[row], mask)
        changed = rule != "drops_and_grows" or job.mask is not None  # nothing is dead, so nothing can grow
        assert torch.allclose(trained.updates[row], plain.updates[row], atol=1e-5) != changed


@pytest.mark.parametrize(
    "schedule", every(2, [SCHEDULE, TrainingSchedule(optimizer="adam", lr=1e-3, batch_size=10, epochs=2)])
)
def test_to_the_last_bit_whoever_stands_beside_and_by_whatever_rule(schedule: TrainingSchedule) -> None:
    module, layout = made(cnn)
    x, y = data()
    jobs = jobs_of(layout, module, y, [(7 * k) % 45 + 1 for k in range(18)], masks=True)
    scale = torch.rand(layout.size, generator=torch.Generator().manual_seed(3))
    kinds: list[tuple[LocalRule | None, Tensor | None]] = [
        (None, None), (Proximal(mu=0.3), None), (FedLEx(), scale), (FedLEx(), 2 - scale), (DropsAndGrows(), None),
        *((rule, None) for rule in RULES.values()),
    ]  # fmt: skip
    for number, (rule, sent) in enumerate(kinds):
        if rule is not None:
            jobs[number :: len(kinds)] = ruled(jobs[number :: len(kinds)], rule, sent)
    trainer = StackedTrainer()
    together = trainer.train(module, layout, x, jobs, schedule)
    assert together.masks is not None
    backwards = StackedTrainer(budget=1).train(module, layout, x, jobs[::-1], schedule)
    assert backwards.masks is not None
    assert torch.equal(backwards.updates.flip(0), together.updates)
    assert torch.equal(backwards.masks.flip(0), together.masks)
    for row in range(0, len(jobs), 2):
        alone = trainer.train(module, layout, x, [jobs[row]], schedule)
        assert torch.equal(alone.updates[0], together.updates[row])
        own = torch.ones(layout.size, dtype=torch.bool) if jobs[row].mask is None else jobs[row].mask
        assert torch.equal(own if alone.masks is None else alone.masks[0], together.masks[row])


def test_adam_undoes_the_scaling_of_gradients_and_not_that_of_updates() -> None:
    module, layout = made(mlp)
    x, y = data()
    jobs = jobs_of(layout, module, y, [40, 60, 50])
    scale = 0.05 + torch.rand(layout.size, generator=torch.Generator().manual_seed(3)) ** 3

    def cosine(schedule: TrainingSchedule, rule: FedLEx) -> float:
        with_, without = (StackedTrainer().train(module, layout, x, each, schedule).updates
                          for each in (ruled(jobs, rule, scale), jobs))  # fmt: skip
        return float(torch.nn.functional.cosine_similarity(with_, without).min())

    adam, sgd = TrainingSchedule(optimizer="adam", lr=3e-4, epochs=3), TrainingSchedule(epochs=3)
    assert cosine(adam, FedLEx(apply="gradient")) > 0.9995
    assert cosine(adam, FedLEx(apply="update")) < 0.9
    assert cosine(sgd, FedLEx(apply="gradient")) < 0.9


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_plain_sgd_makes_no_difference_between_gradient_and_update(trainer: Trainer) -> None:
    """v is linear in g, so a constant factor goes through momentum too; weight decay comes after the gradient's."""
    module, layout = made(mlp)
    x, y = data()
    jobs, scale = jobs_of(layout, module, y, [20, 33], masks=True), torch.linspace(0.1, 2, layout.size)

    def updates(decay: float, apply: str) -> Tensor:
        schedule = TrainingSchedule(momentum=0.5, weight_decay=decay, epochs=2)
        return trainer.train(module, layout, x, ruled(jobs, FedLEx(apply=apply), scale), schedule).updates

    torch.testing.assert_close(updates(0, "gradient"), updates(0, "update"), atol=1e-6, rtol=1e-4)
    assert not torch.allclose(updates(0.2, "gradient"), updates(0.2, "update"), atol=1e-4)


# ------------------------------------------------------------------------------------------ under DP-SGD


def private_by_hand(module: nn.Module, job: ClientJob, schedule: TrainingSchedule, mu: float, scale: Tensor) -> Tensor:
    """Abadi et al. 2016, Algorithm 1; the rule changes what is clipped, noised and divided already."""
    layout, private = Layout.of(module), job.private
    assert private is not None
    live = torch.ones(layout.size, dtype=torch.bool) if job.mask is None else job.mask
    start = torch.where(live, job.start, 0.0)
    w, n = start.clone(), len(job.samples)
    source = job.private_draws
    draws, noise = (source.generator(purpose, *job.address) for purpose in (Purpose.POISSON, Purpose.DP_NOISE))
    steps = schedule.epochs * -(-n // schedule.batch_size)
    for batch in torch.from_numpy(draws.random((steps, n)) < schedule.batch_size / n):
        total = torch.zeros(layout.size)
        for i in batch.nonzero().squeeze(1).tolist():
            layout.load(module, w)
            loss = nn.functional.cross_entropy(module(IMAGES[job.samples[i]][None]), job.labels[i][None])
            flat = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(module.parameters()))]) * live
            total += flat * min(1.0, private.clip / float(flat.norm()))
        z = torch.from_numpy(noise.standard_normal(layout.size)).float()
        noised = (total + private.noise_multiplier * private.clip * z * live) / schedule.batch_size
        w = w - schedule.lr * scale * (noised + mu * (w - start))
    return w - start


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_under_dp_sgd_a_rule_sees_noised_gradients_only(trainer: Trainer, masked: bool) -> None:
    module = built(mlp)
    layout, rows = Layout.of(module), torch.arange(20, 40)
    schedule = TrainingSchedule(lr=0.2, batch_size=8, epochs=2)
    mask = torch.rand(layout.size, generator=torch.Generator().manual_seed(4)) < 0.7 if masked else None
    job = ClientJob(layout.vector(module), rows, LABELS[rows], 5, (1, 2), mask, PrivateSteps(0.2, 0.7))
    scale, one = torch.linspace(0.1, 2, layout.size), torch.ones(layout.size)
    for rule, mu, factor in ((Proximal(mu=0.8), 0.8, one), (FedLEx(apply="gradient"), 0.0, scale)):
        found = trainer.train(module, layout, IMAGES, ruled([job], rule, factor), schedule).updates[0]
        expected = private_by_hand(built(mlp), job, schedule, mu, factor)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert not torch.allclose(found, trainer.train(module, layout, IMAGES, [job], schedule).updates[0], atol=1e-4)


def test_private_and_plain_jobs_of_several_rules_stand_together() -> None:
    module, layout = made(mlp)
    x, y = data()
    jobs = jobs_of(layout, module, y, [20, 24, 28, 32, 20, 24], masks=True)
    for row, rule in enumerate([None, Proximal(mu=0.5), None, Proximal(mu=0.5), FedLEx(apply="gradient"), Proximal()]):
        own = jobs[row] if rule is None else ruled([jobs[row]], rule, torch.full((layout.size,), 0.5))[0]
        jobs[row] = replace(own, private=PrivateSteps(0.5, 1.0) if row != 3 else None)
    schedule = TrainingSchedule(batch_size=8, epochs=1)
    together = StackedTrainer().train(module, layout, x, jobs, schedule).updates
    for row, job in enumerate(jobs):
        assert torch.equal(StackedTrainer().train(module, layout, x, [job], schedule).updates[0], together[row])


class Looks(LocalRule):
    """Writes down what it is shown; pure in what it gives."""

    def gradient(self, view: LocalView, gradients: list[Tensor]) -> list[Tensor]:
        SHOWN.append([g.clone() for g in gradients])
        return gradients


SHOWN: list[list[Tensor]] = []


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_without_samples_in_a_batch_what_a_rule_sees_is_the_noise(trainer: Trainer) -> None:
    """Clip 1e-6: gradients vanish beside noise of another size, which is drawn at the job's address."""
    module = built(mlp)
    layout, rows = Layout.of(module), torch.arange(20, 40)
    job = ClientJob(layout.vector(module), rows, LABELS[rows], 5, (1, 2), None, PrivateSteps(1e-6, 1e6))
    SHOWN.clear()
    trainer.train(module, layout, IMAGES, ruled([job], Looks()), TrainingSchedule(lr=1e-3, batch_size=8, epochs=1))
    noise = job.private_draws.generator(Purpose.DP_NOISE, *job.address)
    for gradients in SHOWN:
        flat = torch.cat([gradient[0].reshape(-1) for gradient in gradients])
        torch.testing.assert_close(
            flat, torch.from_numpy(noise.standard_normal(layout.size)).float() / 8, atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_masks_do_not_move_under_dp_sgd(trainer: Trainer) -> None:
    module = built(mlp)
    layout, rows = Layout.of(module), torch.arange(20, 40)
    job = ClientJob(layout.vector(module), rows, LABELS[rows], 5, (1, 2), None, PrivateSteps(0.2, 1.0))
    with pytest.raises(InputError, match="DropsAndGrows moves masks between epochs, and DP-SGD"):
        trainer.train(module, layout, IMAGES, ruled([job], DropsAndGrows()), TrainingSchedule(batch_size=8))
