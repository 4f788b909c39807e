"""Secure sums in words: what a setting is called, what the server saw, and how a secure run compares with its twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.records.configs import without
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.reports.study.study import Study

MIB = 2**20


@dataclass(frozen=True)
class SecurePair:
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


def secure_pairs(study: Study) -> list[SecurePair]:
    """Every secure run beside its twin in the open: same configuration but for ``secure_sum``, same seed."""
    plain: dict[str, RunRecord] = {}
    for record in study.records:
        if record.secure_sum is None:
            plain[_without(record)] = record
    found: dict[tuple[str, str], list[tuple[RunRecord | None, RunRecord]]] = {}
    for row, record in study.rows:
        if record.secure_sum is not None:
            found.setdefault((row.facet, row.algorithm), []).append((plain.get(_without(record)), record))
    return [SecurePair(facet, algorithm, pairs) for (facet, algorithm), pairs in found.items()]


def _without(record: RunRecord) -> str:
    return canonical(without(record.config, "secure_sum", "name"))


@dataclass(frozen=True)
class Line:
    """One setting for the reader: what was hidden, what stayed the same, what it cost, what an attacker made of it."""

    algorithm: str
    facet: str
    sees: list[str]  # what the server saw, one sentence for each thing that clients send
    accuracy: str
    equal: list[str]  # what is the same bit for bit, in how many pairs
    bytes: str
    seconds: str
    guessed: list[str]  # what label inference made of each view; empty: nobody tried


def lines(study: Study, audits: Sequence[AuditRecord]) -> list[Line]:
    """Every secure setting beside its twin in the open, with the audits of its cells as far as there are any."""
    return [_line(study, entry, audits) for entry in secure_pairs(study)]


def _line(study: Study, entry: SecurePair, audits: Sequence[AuditRecord]) -> Line:
    secure, plain = [record for _, record in entry.pairs], [record for record, _ in entry.both]
    seen = secure[0].secure_sum
    assert seen is not None
    equal = [
        f"{words} equal: {same} of {of}"
        for digest, words in (("guidance", "guidance"), ("mask", "masks"))
        for same, of in [entry.equal(digest)]
        if of
    ]
    return Line(
        algorithm=entry.algorithm,
        facet=entry.facet,
        sees=[*(clean_text(line) for line in seen.server_sees), *_links(secure)],
        accuracy=_beside(plain, secure, lambda r: 100 * study.accuracy(r), ".1f", " %"),
        equal=equal if plain else ["no twin in the open"],
        bytes=_beside(plain, secure, lambda r: r.costs.bytes.uplink_values / MIB, ".3g", " MiB"),
        seconds=f"{fmean(r.timing.get('secure_seconds', 0.0) for r in secure):.2g} s",
        guessed=(
            _guessed([a for a in audits if a.labels and a.cell in {r.cell for r in secure}])
            if secure[0].exploration is not None
            else ["does not explore"]
        ),
    )


def _links(secure: list[RunRecord]) -> list[str]:
    """A line about runs whose links were open to whoever reads them; a record of an earlier version does not say."""
    bare = sum(record.secure_sum is not None and record.secure_sum.links == "plaintext" for record in secure)
    return (
        [f"links in plaintext in {bare} of {len(secure)} runs: anybody who reads them all reads every row"]
        if bare
        else []
    )


def _beside(
    plain: list[RunRecord], secure: list[RunRecord], value: Callable[[RunRecord], float], form: str, unit: str
) -> str:
    """The mean in the open, an arrow, and the mean through the parties."""
    after = f"{format(fmean(map(value, secure)), form)}{unit}"
    return f"{format(fmean(map(value, plain)), form)} → {after}" if plain else after


def _guessed(audits: list[AuditRecord]) -> list[str]:
    """Which share of a client's classes label inference guessed, for each view that was attacked."""
    views = {"plain": "single deviations", "as sent": "as sent", "securely summed": "their sum"}
    told = []
    for view, words in views.items():
        right = [look.accuracy.value for audit in audits for look in audit.labels if look.view == view]
        if right:
            told.append(f"{words}: {100 * fmean(right):.0f} %")
    chance = [look.chance for audit in audits for look in audit.labels]
    return [*told, f"chance: {100 * fmean(chance):.0f} %"] if told else []
