"""How far a sweep is, over all of its passes: what did not fit into memory is run in parts in another pass."""

from __future__ import annotations

from collections.abc import Sequence

from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.listening import Listener
from autoflip_secure.scenarios.running.pace import Pace


class Gauge:
    """Tells a listener of cells done and seconds left."""

    def __init__(self, todo: Sequence[Block], workers: int, listener: Listener) -> None:
        self._total, self._done, self._workers, self._listener = sum(len(b.cells) for b in todo), 0.0, workers, listener
        self.begin(todo)

    def begin(self, todo: Sequence[Block]) -> None:
        """A pass begins, with cells of the first one alone."""
        self._order = {block.keys[0]: number for number, block in enumerate(todo)}
        self._cells = [len(block.cells) for block in todo]
        self._done = self._total - sum(self._cells)
        self._pace = Pace([_work(block) for block in todo], self._workers)

    def advance(self, block: Block, share: float) -> None:
        """``share`` of a block that runs is done."""
        self._pace.advance(self._order[block.keys[0]], share)
        self._tell()

    def finish(self, block: Block) -> None:
        """A block is done, or has to be run in parts."""
        self._pace.finish(self._order[block.keys[0]])
        self._tell()

    def _tell(self) -> None:
        done = sum(count * share for count, share in zip(self._cells, self._pace.shares, strict=True))
        self._listener.progress(self._done + done, self._total, self._pace.left())


def _work(block: Block) -> float:
    """How much a block is beside others of the sweep: local passes over a client's data."""
    settings = [spec.settings for spec in block.cells]
    return float(sum(s.rounds * s.cohort * s.training.epochs for s in settings))
