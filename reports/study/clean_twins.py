"""A run beside the same run without attack, its *clean twin*: what an attack leaves behind.

The clean twin has the same seed and the same configuration but for the attack, so it saw the same partition, initial
weights, cohorts and mini-batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import without
from autoflip_secure.records.newer_keys import with_newer
from autoflip_secure.records.robustness import parts_of
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.degradation_curve import BREAKDOWN_MARGIN
from autoflip_secure.reports.study.labels import is_clean

RECOVERY_MARGIN = BREAKDOWN_MARGIN
"""Accuracy, in [0, 1], below the clean twin's in the same round up to which a run counts as recovered."""


class Recovery(NamedTuple):
    """What follows the last round of an attack's window."""

    rounds: int | None  # until accuracy is back, 0: it was not away at the window's end; None: not within the run
    watched: int  # rounds between the window's end and the run's


def clean_twins(records: Iterable[RunRecord]) -> dict[str, RunRecord]:
    """Cell of an attacked run -> its clean twin, for those that have one."""
    attacked, clean = list[tuple[str, str]](), dict[str, RunRecord]()
    for record in records:
        key = canonical(without(with_newer(record.config), "name", "attack"))
        if is_clean(record.config.get("attack")):
            clean.setdefault(key, record)
        else:
            attacked.append((record.cell, key))
    return {cell: clean[key] for cell, key in attacked if key in clean}


def recovery(record: RunRecord, twin: RunRecord, margin: float = RECOVERY_MARGIN) -> Recovery | None:
    """Rounds after the window until the first evaluation that is at most ``margin`` below the twin's of that round.

    None where nothing is to be recovered from: the window has no end, or ends with the run or after it, or nobody acted
    in it; or where no later round was evaluated in both runs.
    """
    last, end = _window_end(record), record.rounds[-1].round if record.rounds else 0
    if last is None or not any(any(entry.malicious) for entry in record.rounds):
        return None
    clean = {entry.round: entry.test_accuracy for entry in twin.rounds if entry.test_accuracy is not None}
    back = [
        (entry.round, entry.test_accuracy >= clean[entry.round] - margin)
        for entry in record.rounds
        if entry.test_accuracy is not None and entry.round in clean
    ]
    after = [number for number, is_back in back if number > last and is_back]
    if not any(number > last for number, _ in back):
        return None
    still_there = [is_back for number, is_back in back if number <= last][-1:]
    if still_there == [True]:
        return Recovery(0, end - last)
    return Recovery(after[0] - last if after else None, end - last)


def _window_end(record: RunRecord) -> int | None:
    ends = [(one.get("window") or {}).get("last") for one in parts_of(record.config.get("attack"))]
    known = [int(end) for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def mask_overlap(record: RunRecord, twin: RunRecord) -> float | None:
    r"""Jaccard index :math:`|A \cap B| / |A \cup B|` of the prunable weights that the two runs leave alive.

    Exact where records have the whole mask. Of large models, and in records of earlier versions, a fixed random choice
    of weights stands for all of them (65,536, and the 600 of the guidance's sample). None where neither run prunes,
    clients have masks of their own, or the records do not tell.
    """
    if any(one.client_state is not None and one.client_state.own_mask for one in (record, twin)):
        return None
    mine, other = _alive(record, twin), _alive(twin, record)
    if mine is None or other is None or len(mine) != len(other):
        known = record.digests.get("mask")
        cut = record.rounds and record.rounds[-1].density < 1
        return 1.0 if cut and known is not None and known == twin.digests.get("mask") else None
    either = int((mine | other).sum())
    pruned = not (mine.all() and other.all())
    return int((mine & other).sum()) / either if either and pruned else None


def _alive(record: RunRecord, other: RunRecord) -> np.ndarray | None:
    """State of the weights of which both records know it; None: this one does not say."""
    if record.classes is not None and other.classes is not None:
        if record.mask is not None:
            return record.mask.alive()
        return None if other.mask is None else np.ones_like(other.mask.alive())  # everything is alive
    sample = None if record.guidance is None else record.guidance.sample
    return np.array([alive for _, _, alive in sample], dtype=bool) if sample else None
