r"""Training images changed at random: mirrored, shifted, and of another brightness, contrast and saturation.

With pixels :math:`p` in [0, 1], factors :math:`b, k, s` uniform in :math:`1 \pm j`, grey :math:`y = 0.2989 r + 0.587 g
+ 0.114 b` (of one channel: itself) and its mean :math:`m` over the image, each step is cut off to [0, 1]:

.. math:: p \leftarrow b p, \quad p \leftarrow m + k (p - m), \quad p \leftarrow y + s (p - y)

as torchvision's ColorJitter does, in this order and without hue. What is drawn for an image depends on the job's
address, the epoch and the image's place among the client's samples, so that it is the same whatever trainer, batch or
worker it meets. Source: torchvision.transforms; that the authors of AutoFLIP flip and jitter with 0.5 is from their
published commands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.interfaces.schedule import Augmentation
from autoflip_secure.seeds import Purpose, generator

NUMBERS = 6  # that are drawn for an image: flip, shift down, shift right, brightness, contrast, saturation
_GREY = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class PixelRange:
    """The numbers that stand for black and white, per channel of the normalised images."""

    black: tuple[float, ...]
    white: tuple[float, ...]


def drawn(job: ClientJob, epochs: int) -> Float[Tensor, "epochs n numbers"]:
    """Uniform numbers in [0, 1) for every sample of a job in every epoch, from (AUGMENTATION, *address)."""
    source = generator(job.seed, Purpose.AUGMENTATION, *job.address)
    return torch.rand(epochs, len(job.samples), NUMBERS, generator=source)


def refuse(said: Augmentation | None, x: Tensor, pixels: PixelRange | None) -> None:
    """What cannot be augmented so.

    Raises:
        InputError: the inputs are no images, or nobody knows what is black.
    """
    if said is None:
        return
    if x.dim() != 4:
        raise InputError(
            f"training.augment: samples have shape {tuple(x.shape[1:])}, and only images (channels, height, width) are "
            "augmented; leave it out"
        )
    if said.needs_range and pixels is None:
        raise InputError(
            "training.augment: crop and jitter need to know which numbers are black and white, and these data are "
            "numbers whose range is not said; save images as bytes (uint8), or give flip alone"
        )
    if 2 * said.crop >= min(x.shape[2:]):
        raise InputError(
            f"training.augment.crop = {said.crop}: is half of an image of {x.shape[2]} x {x.shape[3]} or more; less"
        )


class Augmenter:
    """Changes the images of one schedule; :meth:`of` a trainer's, None where there is nothing to change."""

    def __init__(self, said: Augmentation, pixels: PixelRange | None, x: Tensor) -> None:
        refuse(said, x, pixels)
        self.said = said
        channels = x.shape[1]
        found = pixels or PixelRange((0.0,), (1.0,))
        black, white = (torch.tensor(one, device=x.device).expand(channels) for one in (found.black, found.white))
        self.black, self.span = black.view(1, -1, 1, 1), (white - black).view(1, -1, 1, 1)

    @classmethod
    def of(cls, schedule: TrainingSchedule, pixels: PixelRange | None, x: Tensor) -> Augmenter | None:
        """What a schedule asks for, for inputs like ``x``."""
        return None if schedule.augment is None else cls(schedule.augment, pixels, x)

    def __call__(
        self, images: Float[Tensor, "n channels height width"], numbers: Float[Tensor, "n numbers"]
    ) -> Float[Tensor, "n channels height width"]:
        """Each image changed by its own numbers, and by nothing else."""
        said, numbers = self.said, numbers.to(images.device)
        if said.flip:
            mirrored = (numbers[:, 0] < said.flip).view(-1, 1, 1, 1)
            images = torch.where(mirrored, images.flip(-1), images)
        if said.crop:
            images = self._shifted(images, numbers[:, 1], numbers[:, 2])
        if said.jitter:
            images = self._jittered(images, 1 + said.jitter * (2 * numbers[:, 3:] - 1))
        return images

    def _shifted(self, images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """A window of the same size, moved over a black border."""
        border, (height, width) = self.said.crop, images.shape[2:]
        offsets = (torch.stack([down, right]) * (2 * border + 1)).long().clamp(max=2 * border) - border
        rows = torch.arange(height, device=images.device) + offsets[0, :, None]
        columns = torch.arange(width, device=images.device) + offsets[1, :, None]
        inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None]
        each = torch.arange(len(images), device=images.device)[:, None, None, None]
        channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
        near = images[
            each, channels, rows.clamp(0, height - 1)[:, None, :, None], columns.clamp(0, width - 1)[:, None, None]
        ]
        return torch.where(inside, near, self.black)

    def _jittered(self, images: Tensor, factors: Tensor) -> Tensor:
        brightness, contrast, saturation = (factors[:, number, None, None, None] for number in range(3))
        raw = (((images - self.black) / self.span) * brightness).clamp(0, 1)
        level = _grey(raw).mean((1, 2, 3), keepdim=True)
        raw = (level + contrast * (raw - level)).clamp(0, 1)
        if images.shape[1] == 3:
            grey = _grey(raw)
            raw = (grey + saturation * (raw - grey)).clamp(0, 1)
        return self.black + raw * self.span


def _grey(raw: Tensor) -> Tensor:
    if raw.shape[1] != 3:
        return raw
    red, green, blue = raw.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)[:, None]
