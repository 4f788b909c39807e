"""How the settings of a run were chosen: what was tried on other seeds, what came out, and what was taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

_DIGITS = 12  # of a mean that count: sums of the same accuracies in another order are equal


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Tried(_Part):
    """One candidate: values of the tuned settings, and what the algorithm came to with them."""

    values: dict[str, Any]  # config path -> value, as written
    mean: float  # of the accuracies
    accuracies: list[float]  # one per tuning seed
    cells: list[str]  # of the tuning stage, one per tuning seed


class TuningRecord(_Part):
    """A choice, made by the mean accuracy without attack over seeds that are not reported."""

    chosen: dict[str, Any]  # config path -> value, as written
    tried: list[Tried]  # in the order listed
    seeds: list[int]
    outcome: str  # which evaluations of a tuning run count
    budget: int  # candidates tried; the same for every algorithm
    combinations: int  # that the axes have; above the budget, candidates were drawn among them
    at_edge: dict[
        str, Literal["smallest", "largest"]
    ] = {}  # tuned numbers whose best value is an end of what was tried

    @property
    def best(self) -> Tried:
        """What was tried with the chosen values."""
        return self.tried[chosen_of([one.mean for one in self.tried])]


def chosen_of(means: Sequence[float]) -> int:
    """Index of the best mean; of equal ones the first.

    >>> chosen_of([0.5, 0.9, 0.9]), chosen_of([0.3, 0.1 + 0.2])
    (1, 0)
    """
    ranks = [round(mean, _DIGITS) for mean in means]
    return ranks.index(max(ranks))


def choose(
    candidates: Sequence[Mapping[str, Any]],
    cells: Sequence[Sequence[str]],
    accuracies: Mapping[str, float],
    *,
    seeds: Sequence[int],
    outcome: str,
    combinations: int,
) -> TuningRecord:
    """Take the candidate with the best mean.

    Args:
        candidates: config path -> value, of each.
        cells: of each candidate, one per seed.
        accuracies: of every cell.
        seeds: of the tuning stage.
        outcome: which evaluations the accuracies are of.
        combinations: that the axes have.
    """
    tried = []
    for values, own in zip(candidates, cells, strict=True):
        found = [accuracies[cell] for cell in own]
        tried.append(Tried(values=dict(values), mean=fmean(found), accuracies=found, cells=list(own)))
    chosen = tried[chosen_of([one.mean for one in tried])].values
    return TuningRecord(
        chosen=chosen,
        tried=tried,
        seeds=list(seeds),
        outcome=outcome,
        budget=len(tried),
        combinations=combinations,
        at_edge=_edges(tried),
    )


def _edges(tried: Sequence[Tried]) -> dict[str, Any]:
    """Tuned numbers whose best value is the smallest or the largest of several, and no other does as well."""
    means = [round(one.mean, _DIGITS) for one in tried]
    best = [one.values for one, mean in zip(tried, means, strict=True) if mean == max(means)]
    found: dict[str, Any] = {}
    for path in best[0]:
        values = {one.values[path] for one in tried if _is_number(one.values[path])}
        for end, value in (("smallest", min(values, default=None)), ("largest", max(values, default=None))):
            if len(values) > 1 and all(one[path] == value for one in best):
                found[path] = end
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
