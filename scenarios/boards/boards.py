"""Boards by name: presets called ``board-NAME-NUMBER``, or a scenario file of the user's own that is called so.

A board never changes; a better one gets the next number. What may differ between two runs of it is the axis
``algorithm`` of its sweep, and where the data lie.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.board import BoardTerms
from autoflip_secure.records.configs import without, without_paths
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.scenarios.config.sources import presets, read_source
from autoflip_secure.scenarios.config.suites import SHARED
from autoflip_secure.terminal.counting import listed

_NAME: Final = re.compile(r"board-[a-z0-9]+(-[a-z0-9]+)*-[1-9][0-9]*")
PLACES: Final = ("data.root", "data.path", "data.test_path", "data.download")
"""Where data lie, and whether they are fetched: of no run of a board the same."""
_PLAIN: Final = "fedavg"  # the defence that no attack is made for: what it meets, all meet


@dataclass(frozen=True)
class Board:
    """A board: what it fixes, and its scenario with any defence."""

    terms: BoardTerms
    question: str
    source: str  # what to type for it: the name of a preset, or a file
    document: Document

    def scenario(
        self, algorithm: Any, tuned: Mapping[str, Any] | None = None, places: Mapping[str, Any] | None = None
    ) -> LoadedScenario:
        """The board's scenario with this defence alone.

        Args:
            algorithm: as a scenario writes it.
            tuned: config path -> value of what the board tunes: the scenario has no stage before then.
            places: config path below ``data`` -> value, of :data:`PLACES`.

        Raises:
            InputError: the defence cannot be used.
        """
        return _scenario(self.document, algorithm, tuned, places or {})

    def setting(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What a run's configuration says of its setting: without defence, attack, seed, tuned values and places."""
        tuned = self.terms.candidates[0] if self.terms.candidates else ()
        return setting_of(config, tuned)

    def attacks(self, algorithm: Any) -> list[dict[str, Any]]:
        """The attacks that a defence of this package meets, in order; see :meth:`scenario`."""
        return attacks_of(self.scenario(algorithm))


def board_names() -> list[str]:
    """The boards that come with the package."""
    return [name for name in presets() if _NAME.fullmatch(name)]


def read_board(source: str | Path) -> Board:
    """A board by the name of its preset, or a scenario file.

    Raises:
        InputError: there is none, it has no name of a board or that of another one, or it cannot be a board.
    """
    document = read_source(source)
    place, name, built_in = str(source), str(document.data.get("name", "")), board_names()
    if _NAME.fullmatch(name) is None:
        known = f"the boards are {listed(built_in)}; a board of your own is named board-NAME-NUMBER"
        raise InputError(f"{place}: is called {name!r:.120} and is no board; {known}")
    if name in built_in and place != name:
        raise InputError(f"{place}: has the name of the board {name} of this package; give it another one")
    grid = document.data.get("sweep")
    axes = grid.get("product") if isinstance(grid, dict) else None
    if not isinstance(axes, dict) or "algorithm" not in axes or grid != {"product": axes}:
        raise InputError(
            f"{place}: a board compares defences: give it a sweep with the axis algorithm, "
            "sweep: {product: {algorithm: [fedavg]}}"
        )
    if document.data.get("suite") is None:
        raise InputError(f"{place}: a board has attacks that every defence meets: give it a suite")
    tune = document.data.get("tune") or {}
    fixed = [*axes, *(tune.get("axes", {}) if isinstance(tune, dict) else ())]
    for path in fixed:
        if path.startswith(("attack", "algorithm.", "seed")):
            raise InputError(
                f"{place}: the axis '{path}' cannot be one of a board, which differs in the defence and its setting "
                "alone; leave it out"
            )
        if path.partition(".")[0] == "data":
            raise InputError(
                f"{place}: the axis '{path}' cannot be one of a board, whose entries are all made from one data set; "
                "make a board for each"
            )
    return _board(document, place)


def _scenario(
    document: Document, algorithm: Any, tuned: Mapping[str, Any] | None, places: Mapping[str, Any]
) -> LoadedScenario:
    """See :meth:`Board.scenario`."""
    document = Document(document.name, copy.deepcopy(document.data), dict(document.places))
    document.data["sweep"]["product"]["algorithm"] = [copy.deepcopy(algorithm)]
    document.replace(("sweep", "product", "algorithm"), "algorithm")
    if tuned is not None:
        document.data.pop("tune", None)
    written = {**places, **(tuned or {})}
    return resolve(document, [f"{path}={canonical(value)}" for path, value in written.items()])


def _board(document: Document, place: str) -> Board:
    loaded = _scenario(document, _PLAIN, None, {})
    tune, header = loaded.header.tune, loaded.header
    candidates = [tune.values(one) for one in tune.candidates] if tune else []
    attacks, suite = attacks_of(loaded), header.suite
    assert suite is not None, "checked before"
    terms = BoardTerms(
        name=header.name,
        settings=_distinct(setting_of(cell.config, candidates[0] if candidates else ()) for cell in loaded.cells),
        attacks=attacks,
        shared={key: attacks[0].get(key) for key in SHARED},
        suites=list(suite.name),
        seeds=list(header.seeds),
        outcome=header.outcome,
        candidates=candidates,
        tuning_seeds=list(tune.seeds) if tune else [],
    )
    return Board(terms, " ".join(header.question.split()), place, document)


def setting_of(config: Mapping[str, Any], tuned: Iterable[str]) -> dict[str, Any]:
    """See :meth:`Board.setting`."""
    return without_paths(without(config, "algorithm", "attack", "seed"), [*tuned, *PLACES])


def attacks_of(loaded: LoadedScenario) -> list[dict[str, Any]]:
    """The attacks of a scenario, each once, in order."""
    return [one for one in _distinct(cell.config["attack"] for cell in loaded.cells) if one["kind"] != "none"]


def _distinct(configs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({canonical(config): config for config in configs}.values())
