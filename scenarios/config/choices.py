"""The two stages of a scenario with ``tune:``: cells on tuning seeds, and with what they chose the cells to report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.tuning import choose, chosen_of
from autoflip_secure.scenarios.config.cells import CellSpec, LoadedScenario, Point, unique
from autoflip_secure.scenarios.config.grid import Assignment
from autoflip_secure.scenarios.config.settings import Header
from autoflip_secure.scenarios.config.tuning import Tune, calm


@dataclass(frozen=True)
class Tuned:
    """A point of the grid before the choice: what it comes to under every attack, with each candidate."""

    choice: int
    points: tuple[tuple[Point, ...], ...]  # candidate -> attack


@dataclass(frozen=True)
class Tuning:
    """The first stage as a scenario of its own, and what the second makes of it."""

    stage: LoadedScenario  # every candidate of every choice, on the tuning seeds
    tune: Tune
    choices: tuple[tuple[tuple[str, ...], ...], ...]
    """One for every algorithm in every setting without attack: candidate -> its cells in ``stage``, one per seed."""
    tuned: tuple[Tuned, ...]  # in the order of the grid

    def resolve(self, scenario: LoadedScenario, accuracies: Mapping[str, float]) -> LoadedScenario:
        """The scenario with every choice made.

        Args:
            scenario: whose tuning this is.
            accuracies: cell of the stage -> its accuracy, by the scenario's outcome; of all of them.
        """
        candidates = self.tune.candidates
        values = [self.tune.values(one) for one in candidates]
        records = [
            choose(
                values, cells, accuracies, seeds=self.tune.seeds, outcome=scenario.header.outcome,
                combinations=self.tune.combinations,
            )
            for cells in self.choices
        ]  # fmt: skip
        taken = [chosen_of([one.mean for one in record.tried]) for record in records]
        cells = unique(
            cell
            for one in self.tuned
            for point in one.points[taken[one.choice]]
            for cell in point.cells(scenario.header.seeds, records[one.choice])
        )
        return replace(scenario, cells=cells, tuning=None)


def two_stages(
    header: Header,
    tune: Tune,
    grid: Iterable[Assignment],
    written: dict[str, Any],
    calm_point: Callable[[Assignment], Point],
    attacked: Callable[[Assignment], tuple[Point, ...]],
) -> tuple[Tuning, tuple[CellSpec, ...]]:
    """Both stages, every candidate checked; and the cells to report with the first one.

    Args:
        header: of the scenario.
        tune: what is tuned.
        grid: the points of the sweep.
        written: the first stage as a document.
        calm_point: a point of the grid where nobody attacks.
        attacked: a point of the grid under every attack that is reported.
    """
    candidates = tune.candidates
    choices: dict[tuple[tuple[str, ...], ...], int] = {}
    stage: list[CellSpec] = []
    tuned: list[Tuned] = []
    for point in grid:
        quiet = calm(point)
        tried = [list(calm_point(tune.set(quiet, one)).cells(tune.seeds)) for one in candidates]
        choice = tuple(tuple(cell.key for cell in own) for own in tried)
        if choice not in choices:
            stage += [cell for own in tried for cell in own]
        number = choices.setdefault(choice, len(choices))
        tuned.append(Tuned(number, tuple(attacked(tune.set(point, one)) for one in candidates)))
    own = Header.model_construct(
        name=written["name"], question=written["question"], seeds=tune.seeds, outcome=header.outcome,
        suite=None, tune=None, sweep=None,
    )  # fmt: skip
    first = unique(cell for one in tuned for point in one.points[0] for cell in point.cells(header.seeds))
    return Tuning(LoadedScenario(own, written, unique(stage)), tune, (*choices,), (*tuned,)), first


def chosen(scenario: LoadedScenario, records: Iterable[RunRecord]) -> LoadedScenario:
    """The scenario with every choice made from the records of its tuning stage; one without that stage as it is."""
    if scenario.tuning is None:
        return scenario
    rule = OutcomeRule.parse(scenario.header.outcome)
    return scenario.tuning.resolve(scenario, {record.cell: rule.accuracy(record) for record in records})
