"""Results folders -> entries of a board: whole defences, each held against what the board fixes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.canonical_json import canonical, digest
from autoflip_secure.records.board import (
    Amounts,
    AttackRuns,
    BoardEntry,
    BoardTerms,
    MetAttack,
    Proven,
    SettingRuns,
    TriedValues,
)
from autoflip_secure.records.configs import differences, without
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.proven import Bound, bounds, weakest
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.boards.boards import Board, board_names, read_board
from autoflip_secure.scenarios.boards.parts import cards, needs, outside
from autoflip_secure.scenarios.store.manifest import read_manifest
from autoflip_secure.scenarios.store.results import read_results
from autoflip_secure.terminal.counting import count_of, listed, some

_NAMED = 3
Place = tuple[int, str, int]  # setting, attack in canonical text, seed
_CALM = canonical({"kind": "none"})


@dataclass(frozen=True)
class Found:
    """What a results folder holds of a board."""

    board: Board
    entries: list[BoardEntry]
    unfinished: list[str]  # a sentence for each defence that lacks runs


def folder_entries(folder: Path, board: Board | None = None) -> Found:
    """Every defence of a results folder that has all runs of the board.

    Args:
        folder: of a sweep.
        board: of which it has to be; None: the one of this package that it is of.

    Raises:
        StoreError: the folder cannot be read, or no defence is finished.
        InputError: it is of another scenario, or of the board with something changed; says what.
    """
    results = read_results(folder)
    name = str(results.scenario.get("name", ""))
    board = board or _board_of(folder, name, results.records)
    defences: dict[str, dict[Place, RunRecord]] = {}
    for record in results.records:
        place = _place(folder, board, record)
        defences.setdefault(canonical(record.config["algorithm"]), {})[place] = record
    inputs = read_manifest(folder).get("inputs", {})
    entries, unfinished = [], []
    for runs in defences.values():
        lacks = _lacking(board, runs)
        if lacks:
            which = next(iter(runs.values())).algorithm
            unfinished.append(f"{folder}: {which} lacks {lacks}, and is left out until the sweep has finished them")
        else:
            entries.append(_entry(folder, board, runs, inputs))
    if not entries:
        raise StoreError(f"{folder}: no defence has all runs of {board.terms.name}: {' '.join(unfinished[:_NAMED])}")
    return Found(board, entries, unfinished)


def _board_of(folder: Path, name: str, records: Sequence[RunRecord]) -> Board:
    """The board of this package that a folder is of: by what its runs are, else by its name."""
    boards = [read_board(one) for one in board_names()]
    for board in boards:
        if any(board.setting(records[0].config) == one for one in board.terms.settings):
            return board
    for board in boards:
        if board.terms.name == name:
            return board
    raise InputError(
        f"{folder}: is a run of {name!r:.120}, which is no board; the boards are {listed(board_names())} (run one "
        "with your defence by --set 'sweep.algorithm=[…]'), or give a board of your own with --board FILE"
    )


def _place(folder: Path, board: Board, record: RunRecord) -> Place:
    """Where a run stands on the board.

    Raises:
        InputError: it is of no place there; says what differs.
    """
    setting, terms = board.setting(record.config), board.terms
    if setting not in terms.settings:
        found = min((differences(one, setting) for one in terms.settings), key=len)
        _refuse(folder, terms, [f"{path}: {old} -> {new}" for path, old, new in found])
    if record.seed not in terms.seeds:
        _refuse(folder, terms, [f"seed {record.seed}, where the board's are {some([*map(str, terms.seeds)], 4)}"])
    attack = record.config["attack"]
    if attack["kind"] != "none" and any(attack.get(key) != value for key, value in terms.shared.items()):
        shared = {key: attack.get(key) for key in terms.shared}
        _refuse(folder, terms, [f"attack.{p}: {old} -> {new}" for p, old, new in differences(terms.shared, shared)])
    if tuning_fault := _tuning_fault(terms, record):
        _refuse(folder, terms, [tuning_fault])
    return terms.settings.index(setting), canonical(attack), record.seed


def _refuse(folder: Path, terms: BoardTerms, found: Sequence[str]) -> None:
    raise InputError(
        f"{folder}: is not a run of {terms.name}, where nothing but sweep.algorithm may differ; what differs is "
        f"{some([*found], _NAMED, '; ')}"
    )


def _tuning_fault(terms: BoardTerms, record: RunRecord) -> str:
    """What is wrong with how the settings of a run were chosen; empty: nothing."""
    tuning = record.tuning
    if not terms.candidates:
        return "tune, which the board has not" if tuning is not None else ""
    if tuning is None:
        return "tune, which the run has not"
    tried = [one.values for one in tuning.tried]
    if tried != terms.candidates or tuning.seeds != terms.tuning_seeds:
        return f"tune: {count_of(len(tried), 'combination')} on seeds {some([*map(str, tuning.seeds)], 4)}"
    rule, wanted = OutcomeRule.parse(tuning.outcome), OutcomeRule.parse(terms.outcome)
    return "" if rule == wanted else f"outcome: {wanted} -> {rule}"


def _lacking(board: Board, runs: Mapping[Place, RunRecord]) -> str:
    """Which runs of a defence are not there; empty: none."""
    record = next(iter(runs.values()))
    attacks = [*_attacks(runs), *(canonical(one) for one in expected(board, record.config["algorithm"]))]
    wanted = [
        (setting, attack, seed)
        for setting in range(len(board.terms.settings))
        for attack in dict.fromkeys([_CALM, *attacks])
        for seed in board.terms.seeds
    ]
    missing = [one for one in wanted if one not in runs]
    return f"{len(missing)} of {count_of(len(wanted), 'run')}" if missing else ""


def expected(board: Board, algorithm: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attacks that a defence has to have met, in order; of one with parts from outside those that are known here."""
    return board.attacks(outside(algorithm).stand_in)


def _attacks(runs: Iterable[Place]) -> list[str]:
    return [one for one in dict.fromkeys(attack for _, attack, _ in runs) if one != _CALM]


def _entry(folder: Path, board: Board, runs: Mapping[Place, RunRecord], inputs: Mapping[str, str]) -> BoardEntry:
    """One defence, all of whose runs are there."""
    records, terms = list(runs.values()), board.terms
    first = records[0]
    algorithm = first.config["algorithm"]
    own = outside(algorithm)
    versions = {canonical(record.versions): record.versions for record in records}
    if len(versions) > 1:
        told = some([f"{k}: {a} -> {b}" for k, a, b in differences(*[*versions.values()][:2])], _NAMED)
        raise InputError(
            f"{folder}: runs of {first.algorithm} were made with different versions ({told}), which an entry cannot "
            "say; run the board again in a new folder"
        )
    data = [value for what, value in inputs.items() if what.startswith("data ")]
    if len(data) != 1:
        raise StoreError(
            f"{folder}: its manifest.json does not say which data its runs were made from; run the board again in a "
            "new folder"
        )
    known = {canonical(one): one for one in expected(board, algorithm)}
    by_text = {canonical(record.config["attack"]): record for record in records}
    foreign = [*own.kinds, *(str(record.config["attack"]["kind"]) for record in by_text.values())]
    texts = [*known, *(text for text in _attacks(runs) if text not in known)]
    if not own.named and (more := texts[len(known) :]):
        kinds = [str(by_text[text].config["attack"]["kind"]) for text in more]
        _refuse(folder, terms, [f"suite: {first.algorithm} met {some(kinds, _NAMED)}, which the board has not for it"])
    return BoardEntry(
        board=terms.name,
        terms=terms.digest,
        defence=first.algorithm,
        algorithm=algorithm,
        outside=own.named,
        data=data[0],
        sources={what: text for what, text in inputs.items() if any(f" {kind} and what" in what for kind in foreign)},
        versions=first.versions,
        bits="stack" if all(record.trainer.bits == "stack" for record in records) else "block",
        needs=needs(algorithm) | _seen(first),
        parameters=first.parameters,
        seeds=terms.seeds,
        attacks=[
            MetAttack(
                config=by_text[text].config["attack"], threat=cards(by_text[text].config["attack"], by_text[text])
            )
            for text in texts
        ],
        settings=[_setting(terms, number, texts, runs) for number in range(len(terms.settings))],
        privacy=_privacy(records),
    )


def _seen(record: RunRecord) -> dict[str, str]:
    return {"explores": "explorers train first"} if record.exploration is not None else {}


def _setting(terms: BoardTerms, number: int, attacks: Sequence[str], runs: Mapping[Place, RunRecord]) -> SettingRuns:
    rule = OutcomeRule.parse(terms.outcome)
    found = [[runs[number, text, seed] for seed in terms.seeds] for text in (_CALM, *attacks)]
    tuning = found[0][0].tuning
    return SettingRuns(
        setting=number,
        tried=[TriedValues(values=one.values, accuracies=one.accuracies) for one in tuning.tried] if tuning else [],
        runs=[
            AttackRuns(
                attack=None if place == 0 else place - 1,
                accuracies=[rule.accuracy(record) for record in own],
                digests=[numbers_digest(record) for record in own],
            )
            for place, own in enumerate(found)
        ],
        costs=_costs(found[0]),
    )


def numbers_digest(record: RunRecord) -> str:
    """Of every number of a run: equal means equal to the last bit. Its configuration names paths, so is left out."""
    return digest(without(record.numbers(), "cell", "config", "axes", "tuning"))


def _costs(records: Sequence[RunRecord]) -> Amounts:
    def mean(values: Sequence[int | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == len(values) else None

    sent, flops = [record.costs.bytes for record in records], [record.costs.flops for record in records]
    return Amounts(
        uplink_bytes=fmean(one.uplink_bitmask for one in sent),
        downlink_bytes=fmean(one.downlink_bitmask for one in sent),
        flops_dense=mean([one.dense for one in flops]),
        flops_sparse=mean([one.sparse for one in flops]),
        flops_compacted=mean([one.compacted for one in flops]),
    )


def _privacy(records: Sequence[RunRecord]) -> list[Proven]:
    """What is proven of every run against an observer: a run without a bound leaves none."""
    found: dict[tuple[str, str], list[Bound]] = {}
    for record in records:
        for one in bounds(record.privacy):
            found.setdefault((one.observer, one.relation), []).append(one)
    return [
        Proven(observer=one.observer, relation=one.relation, epsilon=one.epsilon, delta=one.delta)
        for one in (weakest(own) for own in found.values() if len(own) == len(records))
    ]
