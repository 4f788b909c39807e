"""Secure sums in words: what a setting is called, what the server saw, and how a secure run compares with its twin."""

from __future__ import annotations

from dataclasses import dataclass

from autoflip_secure.record import RunRecord
from reports.labels import canonical, clean_text
from reports.study import Study


@dataclass(frozen=True)
class Twins:
    """Runs of one algorithm that went through parties, each with the run in the open that is the same otherwise."""

    facet: str
    algorithm: str
    pairs: list[tuple[RunRecord | None, RunRecord]]  # (in the open, through parties); None: there is no twin

    @property
    def both(self) -> list[tuple[RunRecord, RunRecord]]:
        """The pairs that are whole."""
        return [(plain, secure) for plain, secure in self.pairs if plain is not None]

    def equal(self, digest: str) -> tuple[int, int]:
        """How many pairs have the same ``guidance`` or ``mask`` bit for bit, of how many."""
        found = [
            plain.digests[digest] == secure.digests[digest]
            for plain, secure in self.both
            if digest in plain.digests and digest in secure.digests
        ]
        return sum(found), len(found)


def twins(study: Study) -> list[Twins]:
    """Every secure run beside its twin in the open: same configuration but for ``secure_sum``, same seed."""
    plain: dict[str, RunRecord] = {}
    for record in study.records:
        if record.secure_sum is None:
            plain[_without(record)] = record
    found: dict[tuple[str, str], list[tuple[RunRecord | None, RunRecord]]] = {}
    rows = zip(study.cells["facet"], study.cells["algorithm"], study.records, strict=True)
    for facet, algorithm, record in rows:
        if record.secure_sum is not None:
            found.setdefault((facet, algorithm), []).append((plain.get(_without(record)), record))
    return [Twins(facet, algorithm, pairs) for (facet, algorithm), pairs in found.items()]


def _without(record: RunRecord) -> str:
    return canonical({k: v for k, v in record.config.items() if k not in ("secure_sum", "name")})


def sentences(found: list[Twins]) -> list[str]:
    """What the server saw of each setting, and whether the numbers are those of the run in the open."""
    told = []
    for entry in found:
        secure = entry.pairs[0][1].secure_sum
        assert secure is not None
        saw = "; ".join(clean_text(line) for line in secure.server_sees)
        same = []
        for digest, words in (("guidance", "guidance matrices"), ("mask", "final masks")):
            equal, of = entry.equal(digest)
            if of:
                same.append(f"{words} equal bit for bit in {equal} of {of} pairs")
        apart = max((abs(a.final_accuracy - b.final_accuracy) for a, b in entry.both), default=None)
        if apart is not None:
            same.append(f"accuracies at most {100 * apart:.2f} points apart")
        against = f" Against its twin in the open: {', '.join(same)}." if same else " It has no twin in the open here."
        told.append(f"{entry.algorithm}, {entry.facet}: the server saw, of {saw}.{against}")
    return told
