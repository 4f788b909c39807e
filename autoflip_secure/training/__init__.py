"""Local training of many clients: stacked in one program, or one at a time, with the same numbers.

Both trainers take the same jobs and draw mini-batches from the same addresses, so their updates are equal within float
rounding; which of them runs is a question of speed and of what the model allows (:func:`choose_trainer`).
"""

from autoflip_secure.runtime import kernels
from autoflip_secure.training.base import ARITHMETIC, Trainer
from autoflip_secure.training.bits import Bits, promised_bits
from autoflip_secure.training.choice import WORTHWHILE, choose_trainer, stackable
from autoflip_secure.training.evaluation import Tested, evaluate, evaluate_by_class
from autoflip_secure.training.sequential import SequentialTrainer
from autoflip_secure.training.stacked import StackedTrainer

__all__ = [
    "ARITHMETIC",
    "WORTHWHILE",
    "Bits",
    "SequentialTrainer",
    "StackedTrainer",
    "Tested",
    "Trainer",
    "choose_trainer",
    "evaluate",
    "evaluate_by_class",
    "promised_bits",
    "stackable",
]

kernels.ask_for_reproducible()  # before anything here computes
