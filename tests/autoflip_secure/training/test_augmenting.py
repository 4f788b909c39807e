"""Training images changed at random: against torchvision, by hand, and the same whatever trains them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.transforms import functional as oracle

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.interfaces.schedule import Augmentation
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import SequentialTrainer, StackedTrainer
from autoflip_secure.training.augmenting import NUMBERS, Augmenter, PixelRange, drawn
from autoflip_secure.training.bits import same_bits

PIXELS = PixelRange((-1.0, -2.0, -0.5), (1.0, 1.0, 2.5))
BLACK, SPAN = (torch.tensor(one).view(1, 3, 1, 1) for one in ((-1.0, -2.0, -0.5), (2.0, 3.0, 3.0)))


def images(count: int = 5, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Raw pixels in [0, 1], and the same normalised."""
    raw = torch.rand(count, channels, 6, 7, generator=torch.Generator().manual_seed(0))
    return raw, BLACK[:, :channels] + raw * SPAN[:, :channels]


def numbers(count: int = 5) -> Tensor:
    return torch.rand(count, NUMBERS, generator=torch.Generator().manual_seed(1))


def changed(said: Augmentation, x: Tensor, drawn_numbers: Tensor) -> Tensor:
    own = PixelRange(PIXELS.black[: x.shape[1]], PIXELS.white[: x.shape[1]])
    return Augmenter(said, own, x)(x, drawn_numbers)


def test_images_are_mirrored_as_often_as_said() -> None:
    _, x = images()
    u = numbers()
    found = changed(Augmentation(flip=0.4), x, u)
    for image, result, number in zip(x, found, u[:, 0].tolist(), strict=True):
        assert result.equal(oracle.hflip(image) if number < 0.4 else image)
    assert changed(Augmentation(flip=1.0), x, u).equal(x.flip(-1))


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions(channels: int) -> None:
    raw, x = images(channels=channels)
    u = numbers()
    found = (changed(Augmentation(jitter=0.5), x, u) - BLACK[:, :channels]) / SPAN[:, :channels]
    for image, result, own in zip(raw, found, 0.5 + u[:, 3:], strict=True):
        wanted = oracle.adjust_contrast(oracle.adjust_brightness(image, float(own[0])), float(own[1]))
        if channels == 3:
            wanted = oracle.adjust_saturation(wanted, float(own[2]))
        torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-5)


def test_shifts_by_hand() -> None:
    _, x = images()
    u = numbers()
    found = changed(Augmentation(crop=2), x, u)
    padded = BLACK.expand(5, 3, 10, 11).clone()
    padded[:, :, 2:8, 2:9] = x
    for number, (down, right) in enumerate((u[:, 1:3] * 5).long().tolist()):
        assert found[number].equal(padded[number, :, down : down + 6, right : right + 7])


def test_every_offset_is_as_likely() -> None:
    x = torch.zeros(5000, 1, 8, 8)
    x[:, :, 4, 4] = 1
    u = torch.rand(5000, NUMBERS, generator=torch.Generator().manual_seed(3))
    found = Augmenter(Augmentation(crop=2), PixelRange((0.0,), (1.0,)), x)(x, u).flatten(1).argmax(1)
    rows, columns = (found // 8 - 2).bincount(minlength=5), (found % 8 - 2).bincount(minlength=5)
    for counts in (rows, columns):
        assert counts.sum() == 5000
        assert ((counts - 1000).abs() < 5 * 28.3).all()  # five standard deviations


def test_an_image_is_changed_by_its_own_numbers_alone() -> None:
    _, x = images()
    u = numbers()
    said = Augmentation(flip=0.5, crop=2, jitter=0.4)
    together = changed(said, x, u)
    for row in range(len(x)):
        assert same_bits(changed(said, x[row : row + 1], u[row : row + 1]), together[row : row + 1])


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4 * 5, 3))


def job(client: int, samples: list[int], start: Tensor) -> ClientJob:
    rows = torch.tensor(samples)
    return ClientJob(start, rows, rows % 3, 7, (2, client))


def test_what_is_drawn_is_at_the_address_of_the_job() -> None:
    one = job(4, [3, 1, 2], torch.zeros(1))
    expected = torch.rand(2, 3, NUMBERS, generator=generator(7, Purpose.AUGMENTATION, 2, 4))
    assert drawn(one, 2).equal(expected)
    assert not drawn(replace(one, address=(3, 4)), 2).equal(expected)


SAID = Augmentation(flip=0.5, crop=1, jitter=0.3)


def test_both_trainers_do_as_a_slow_loop_does() -> None:
    """Plain SGD, every image changed by hand before it is used."""
    _, x = images(12)
    module = net()
    layout = Layout.of(module)
    start = layout.vector(module)
    jobs = [job(0, [0, 1, 2, 3, 4], start), job(1, [5, 6], start), job(2, [7, 8, 9, 10, 11, 3, 4], start)]
    schedule = TrainingSchedule(lr=0.1, batch_size=2, epochs=2, augment=SAID)
    updates = []
    for trainer in (SequentialTrainer(), StackedTrainer()):
        trainer.pixels = PIXELS
        updates.append(trainer.train(module, layout, x, jobs, schedule).updates)
    for row, one in enumerate(jobs):
        slow = net()
        orders = generator(7, Purpose.BATCHES, *one.address)
        draws = torch.rand(2, len(one.samples), NUMBERS, generator=generator(7, Purpose.AUGMENTATION, *one.address))
        for epoch in range(2):
            order = torch.randperm(len(one.samples), generator=orders)
            for batch in order.split(2):
                inputs = torch.cat(
                    [changed(SAID, x[one.samples[i]][None], draws[epoch, i][None]) for i in batch.tolist()]
                )
                loss = nn.functional.cross_entropy(slow(inputs), one.labels[batch])
                grads = torch.autograd.grad(loss, list(slow.parameters()))
                with torch.no_grad():
                    for parameter, grad in zip(slow.parameters(), grads, strict=True):
                        parameter.sub_(0.1 * grad)
        for found in updates:
            torch.testing.assert_close(found[row], layout.vector(slow) - start, rtol=1e-4, atol=1e-6)


def test_a_client_trains_to_the_same_bits_alone_and_in_a_stack() -> None:
    _, x = images(12)
    module = net()
    layout = Layout.of(module)
    start = layout.vector(module)
    jobs = [job(0, [0, 1, 2, 3, 4], start), job(1, [5, 6], start), job(2, [7, 8, 9, 10, 11, 3, 4], start)]
    trainer = StackedTrainer()
    trainer.pixels = PIXELS
    schedule = TrainingSchedule(lr=0.1, batch_size=2, epochs=2, augment=SAID)
    together = trainer.train(module, layout, x, jobs, schedule).updates
    for row, one in enumerate(jobs):
        assert same_bits(trainer.train(module, layout, x, [one], schedule).updates[0], together[row])
    plain = trainer.train(module, layout, x, jobs, schedule.model_copy(update={"augment": None})).updates
    assert not torch.allclose(plain, together)


@pytest.mark.parametrize(
    ("said", "x", "pixels", "message"),
    [
        (
            Augmentation(flip=0.5),
            torch.zeros(3, 4),
            PIXELS,
            r"training.augment: samples have shape \(4,\), and only images",
        ),
        (Augmentation(jitter=0.5), torch.zeros(3, 3, 8, 8), None, r"need to know which numbers are black and white"),
        (
            Augmentation(crop=4),
            torch.zeros(3, 3, 8, 8),
            PIXELS,
            r"training.augment.crop = 4: is half of an image of 8 x 8",
        ),
    ],
)
def test_what_cannot_be_augmented(said: Augmentation, x: Tensor, pixels: PixelRange | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augmenter(said, pixels, x)
    assert Augmenter(Augmentation(flip=0.5), None, torch.zeros(3, 3, 8, 8))


def test_a_schedule_says_what_it_changes() -> None:
    with pytest.raises(ValidationError, match="augment changes nothing"):
        TrainingSchedule(augment={})
    schedule = TrainingSchedule(lr=0.5, lr_decay=0.9)
    assert schedule.in_round(1).lr == 0.5
    assert schedule.in_round(4).lr == pytest.approx(0.5 * 0.9**3)
    assert TrainingSchedule(lr=0.5).in_round(9) == TrainingSchedule(lr=0.5)
