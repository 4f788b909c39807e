"""What was tuned: the choice that was made for every algorithm in every setting, as its runs remember it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoflip_secure.records.tuning import Tried, TuningRecord
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.study import Study

_LONGEST = 60  # letters of a value


@dataclass(frozen=True)
class Choice:
    """One choice. It holds under every attack."""

    facet: str
    algorithm: str
    record: TuningRecord

    @property
    def chosen(self) -> str:
        """``lr 0.2``."""
        return in_words(self.record.chosen)

    @property
    def next_best(self) -> Tried:
        """The best of what was not taken."""
        others = [one for one in self.record.tried if one is not self.record.best]
        return max(others, key=lambda one: one.mean)

    @property
    def edges(self) -> str:
        """``lr 0.4 is the largest tried``; empty where the best value lies inside."""
        return ", ".join(
            f"{labels.setting(path)} {labels.number(self.record.chosen[path])} is the {end} tried"
            for path, end in self.record.at_edge.items()
        )


def choices(study: Study) -> list[Choice]:
    """Every choice, setting by setting, in the order of the study."""
    found: dict[tuple[str, str], TuningRecord] = {}
    for row, record in study.rows:
        if record.tuning is not None:
            found.setdefault((str(row.facet), str(row.algorithm)), record.tuning)
    return [
        Choice(facet, algorithm, found[facet, algorithm])
        for facet in study.facets
        for algorithm in study.algorithms
        if (facet, algorithm) in found
    ]


def untuned(study: Study) -> list[str]:
    """Algorithms of which at least one run was not tuned."""
    without = {str(row.algorithm) for row, record in study.rows if record.tuning is None}
    return [algorithm for algorithm in study.algorithms if algorithm in without]


def in_words(values: Mapping[str, Any]) -> str:
    """Values of the tuned settings.

    >>> in_words({"training.lr": 0.2, "training.batch_size": 16})
    'lr 0.2, batch size 16'
    """
    return ", ".join(f"{labels.setting(path)} {value_in_words(value)}" for path, value in values.items())


def value_in_words(value: Any) -> str:
    """One value; of a component its kind and the options that were written.

    >>> value_in_words(0.2), value_in_words({"kind": "trimmed_mean", "bad_share": 0.3})
    ('0.2', 'trimmed mean (bad share 0.3)')
    """
    if not isinstance(value, Mapping) or "kind" not in value:
        return labels.shorten(labels.clean_text(labels.number(value)), _LONGEST)
    options = in_words({key: one for key, one in value.items() if key != "kind"})
    kind = labels.kind_words(str(value["kind"]))
    text = f"{kind} ({options})" if options else kind
    return labels.shorten(labels.clean_text(text), _LONGEST)
