"""A block on another machine: what goes with it, and what has to be the same there before it runs.

Records name what they were made with, so other versions of libraries are no fault. What the cells read has to be the
same, and this package; with privacy so has everything that private draws follow from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.store.fingerprints import input_digests, own_source, read_by
from autoflip_secure.scenarios.store.ledgers import conditions, private
from autoflip_secure.training.base import resolve_device


@dataclass(frozen=True)
class Expected:
    """What a block has to find where it runs."""

    inputs: Mapping[str, str]  # what its cells read -> digest
    conditions: Mapping[str, str] = field(default_factory=conditions)
    source: str = field(default_factory=own_source)
    device: str = field(default_factory=lambda: resolve_device("auto").type)  # what ``device: auto`` is

    @classmethod
    def of(cls, block: Block, inputs: Mapping[str, str]) -> Expected:
        """What ``block`` needs of ``inputs``, and what is true here."""
        return cls({what: inputs[what] for spec in block.cells for what in read_by(spec.settings) if what in inputs})

    def check(self, block: Block, builder: CellBuilder, machine: str, option: str) -> None:
        """Compare with what is there, before anything of ``block`` is released.

        Args:
            block: what is about to run.
            builder: of the machine that runs it.
            machine: its name, for messages.
            option: without which blocks run where the sweep was started.

        Raises:
            InputError: what is read is missing or not the same there; or it would compute on another kind of device; or
                a cell is private, and its noise would be another than the one that has been announced in its ledger.
        """
        if self.source != own_source():
            raise InputError(
                f"{block.label}: {machine} has another version of autoflip-secure than the sweep was started with; "
                f"install the same on every machine, or leave out {option}"
            )
        try:
            found = input_digests((spec.settings for spec in block.cells), builder.data, self.inputs)
        except InputError as error:
            raise InputError(
                f"{block.label}: {machine} cannot read what its cells are made of ({error}); put there what the sweep "
                f"was started with, or leave out {option}"
            ) from error
        if other := sorted(what for what, digest in self.inputs.items() if found.get(what) != digest):
            raise InputError(
                f"{block.label}: on {machine}, {other[0]} is not the same as where the sweep was started; put the same "
                f"there, or leave out {option}"
            )
        wanted, there_is = {spec.settings.device for spec in block.cells}, resolve_device("auto").type
        if "cuda" in wanted and there_is != "cuda":
            raise InputError(
                f"{block.label}: device = 'cuda', and torch finds no GPU on {machine}; give it one, set device: cpu "
                f"or leave out {option}"
            )
        if "auto" in wanted and there_is != self.device:
            raise InputError(
                f"{block.label}: `device: auto` is {there_is} on {machine} and {self.device} where the sweep was "
                "started, whose numbers do not mix; set device: cpu or device: cuda"
            )
        there = conditions()
        if any(map(private, block.cells)) and there != self.conditions:
            both = self.conditions.keys() | there.keys()
            others = sorted(what for what in both if self.conditions.get(what) != there.get(what))
            raise InputError(
                f"{block.label}: {machine} has another {', '.join(others)}, so its private noise would not be that of "
                f"the ledger; start the sweep on such a machine, or leave out {option}"
            )
