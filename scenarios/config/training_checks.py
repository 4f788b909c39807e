"""What does not go with how clients train: augmentation and mixed precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoflip_secure.scenarios.config.fields import Fields

Obstacle = tuple[str, str, str]  # key, sentence about its value, the other key


def obstacle(settings: Fields) -> Obstacle | None:
    """The first thing that is in the way; None: all is well."""
    training, samples = settings.training, settings.privacy.works_on_samples
    if training.augment is not None and samples:
        return "training.augment", (
            "with DP-SGD samples are trained on as they are; leave augment out, or choose client_level privacy or none"
        ), "privacy"  # fmt: skip
    if training.precision == "float32":
        return None
    if samples:
        return "training.precision", (
            f"{training.precision}: DP-SGD clips gradients by norms that are exact to float32; leave precision out, or "
            "choose client_level privacy or none"
        ), "privacy"  # fmt: skip
    if settings.trainer == "stacked":
        return "trainer", (
            f"stacked: trains in float32 alone, and training.precision is {training.precision}; set trainer: auto"
        ), "training.precision"  # fmt: skip
    return None
