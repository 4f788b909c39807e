"""One interface for whatever runs blocks. A sweep asks in this order:

``refuse`` (whether it can do this sweep at all, before there is a folder), ``open`` (around everything), ``workers``
(how many blocks run side by side) and ``run``. What an executor cannot do is a class attribute that says why, so no
caller looks at which one it has. Shards are not an executor: they choose the blocks that any of these is given.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RoundRecord
from autoflip_secure.scenarios.config.cells import CellSpec
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.cutting import Results
from autoflip_secure.scenarios.running.parties import PartyPool
from autoflip_secure.scenarios.store.checkpoints import ModelsToKeep

Progress = Callable[[Block, float], None]  # a block in flight, and its share done
Rounds = Sequence[tuple[str, RoundRecord]]  # keys of cells, and what their records say of rounds
Finished = Generator[tuple[Block, Results], None, None]  # blocks with what they came to, as they finish

CONTINUE = "finished cells are kept, run the same command again to continue"


@dataclass(frozen=True)
class Task:
    """What goes with the blocks of a sweep, whoever runs them."""

    progress: Progress = lambda block, share: None
    rounds: Callable[[Rounds], None] | None = None  # told of rounds of blocks in flight as they end; None: nobody is
    builder: CellBuilder = field(default_factory=CellBuilder)  # knows data, splits and noise already
    inputs: Mapping[str, str] = field(default_factory=dict)  # what blocks read -> digest, see :func:`.input_digests`
    pool: PartyPool = field(default_factory=dict)  # parties of secure sums
    models: ModelsToKeep | None = None  # which cells leave their models
    again: Callable[[Block], Block] = lambda block: block
    """Called before a block that was begun is begun once more: counts the attempt in the ledgers of its private cells,
    and gives the block as it is to be run now."""


class Executor(ABC):
    """Runs blocks. Frozen data of what the user chose; what is opened belongs to :meth:`open`."""

    option: ClassVar[str]
    """What the user writes to have it, as messages name it."""
    here: ClassVar[bool] = False
    """Blocks run on this machine, whose memory is known."""
    without_models: ClassVar[str | None] = None
    """Why models cannot be kept; None: they can."""
    without_parties: ClassVar[str | None] = None
    """Why cells with ``secure_sum`` cannot run; None: they can."""

    def refuse(self, cells: Sequence[CellSpec], workers: int | None, *, keep_models: bool) -> None:
        """Before there is a folder: nothing speaks against running ``cells`` here.

        Args:
            cells: all of the sweep.
            workers: that the user asked for; None: did not say.
            keep_models: whether cells are to leave their models.

        Raises:
            InputError: something does; says what to leave out or to add.
        """
        if keep_models and self.without_models is not None:
            raise InputError(f"{self.option}: {self.without_models}; leave out --keep-models")
        if self.without_parties is not None and any(spec.settings.secure_sum is not None for spec in cells):
            raise InputError(f"{self.option}: {self.without_parties}; leave out {self.option}")

    @contextlib.contextmanager
    def open(self) -> Iterator[Executor]:
        """What runs the blocks while the context lasts; what it opened for them is closed behind it."""
        yield self

    @abstractmethod
    def workers(self, asked: int | None, blocks: Sequence[Block], builder: CellBuilder) -> int:
        """How many blocks run side by side.

        Args:
            asked: what the user wants; None leaves the choice.
            blocks: what there is to run; may be none.
            builder: knows data and models of the blocks already.
        """

    @abstractmethod
    def run(self, blocks: Sequence[Block], workers: int, task: Task) -> Finished:
        """Yield every block with its records, or that it did not fit into memory. Closing the generator stops what is
        still running.

        Raises:
            AutoflipError: a block failed, or whatever ran it; names the block. What was yielded before is whole.
        """
