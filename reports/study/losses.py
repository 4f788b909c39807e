r"""How the training of one run went: its losses from first to last, and rounds in which nothing could be used."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from statistics import fmean

from autoflip_secure.records.curve import Curve
from autoflip_secure.records.run import FeatureScale, RunRecord

FAR = 10.0  # times the loss of guessing: losses that rise beyond it have diverged
LAST = 5  # losses at the end that are averaged


@dataclass(frozen=True)
class Course:
    """Losses in nats; a loss that was not measured, because nobody came or nothing was tested, is none."""

    first: float  # of the test; where there is one test only, the loss of guessing
    last: float  # of the test, mean over the last ones
    rise: tuple[float, float] | None  # first and last of training or of the test, whichever ends higher above its first
    far: bool  # it rises beyond ``FAR`` times the loss of guessing
    broken: int  # the first round with a loss that is not finite; 0: there is none
    left_out: int  # rounds in which clients took part, and no update was used
    best: float  # highest accuracy on the test set

    @classmethod
    def of(cls, run: RunRecord) -> Course:
        """Read it from a record."""
        guess, curve = guess_of(run), run.curve
        trained = [loss for loss in curve.train_loss if loss is not None]
        tested = [loss for loss in curve.test_loss if loss is not None]
        ends = [(found[0], _end(found)) for found in (trained, tested) if len(found) > 1]
        rise = max(((a, b) for a, b in ends if b > a), key=lambda pair: pair[1], default=None)
        return cls(
            first=tested[0] if len(tested) > 1 else guess,
            last=_end(tested) if tested else guess,
            rise=rise,
            far=rise is not None and rise[1] > FAR * guess,
            broken=_broken(curve),
            left_out=_left_out(run, curve),
            best=max((accuracy for accuracy in curve.test_accuracy if accuracy is not None), default=0.0),
        )


def _end(losses: list[float]) -> float:
    """Mean of the last ones; the first is among them only where it is the only one."""
    return fmean(losses[-min(LAST, max(1, len(losses) - 1)) :])


def _broken(curve: Curve) -> int:
    for place, number in enumerate(curve.round):
        trained = curve.participants[place] > 0 and curve.train_loss[place] is None
        tested = curve.test_accuracy[place] is not None and curve.test_loss[place] is None
        if trained or tested:
            return number
    return 0


def _left_out(run: RunRecord, curve: Curve) -> int:
    """Through parties a round may fail for other reasons than training: there it must be most of them."""
    count = sum(0 < came == gone for came, gone in zip(curve.participants, curve.rejected, strict=True))
    secret = bool((run.config.get("secure_sum") or {}).get("updates"))
    return 0 if secret and 2 * count <= len(curve.round) else count


def classes_of(run: RunRecord) -> int:
    """Classes of the data; in a record of an earlier version, outputs of the last layer."""
    return run.data.classes if run.data is not None else (run.layers[-1].shape[0] if run.layers else 2)


def chance_of(run: RunRecord) -> float:
    """Accuracy that needs no learning: the share of the largest class; where that is not recorded, one in C."""
    return run.data.largest_class if run.data is not None else 1 / classes_of(run)


def guess_of(run: RunRecord) -> float:
    """Loss of a guess among all classes, in nats."""
    return math.log(max(2, classes_of(run)))


def scale_of(run: RunRecord) -> FeatureScale | None:
    """Of the columns of the training data; None: not recorded, or no quantities."""
    return run.data.features if run.data is not None else None


def short(value: float) -> str:
    """A number of any size, in two digits that count.

    >>> short(2.302), short(64213.8), short(1.04e6), short(5.47e17), short(3e-7)
    ('2.3', '64000', '1e6', '5.5e17', '3e-7')
    """
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{float(f'{value:.2g}'):g}")


def loss(value: float) -> str:
    """A loss in nats: two digits after the point where it is near that of guessing.

    >>> loss(2.302), loss(0.04), loss(64213.8)
    ('2.30', '0.04', '64000')
    """
    return f"{value:.2f}" if value < FAR else short(value)
