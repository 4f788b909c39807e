"""Every claim of the paper and of its review: where it is made, and which scenario answers it.

``autoflip-secure claims`` runs the scenarios (:mod:`autoflip_secure.scenarios.running.claim_stages`) and puts the
answers together. A verdict is that of the claim on the records of its scenario, by the bounds of this room.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from autoflip_secure.reports.claims.findings import Answer, Claim, Evidence, judged_together
from autoflip_secure.reports.claims.mask import heavy_at_zero, refinement, whole_units
from autoflip_secure.reports.claims.paper import asked_by_review, claims, of_paper
from autoflip_secure.reports.claims.rivals import RIVALS, rivals
from autoflip_secure.reports.study.study import Study


@dataclass(frozen=True)
class Unit:
    """What the effect of a claim is counted in; ``panel``: the axis of the picture, where several units share one."""

    name: str
    scale: float = 1.0
    digits: int = 2
    panel: str = ""

    @property
    def axis(self) -> str:
        """What stands at the axis."""
        return self.panel or self.name


POINTS = Unit("points of accuracy", 100, 2)
SAVED = Unit("% saved", 100, 1)
SHARE = Unit("%", 100, 1, "% of weights or units")
ROUNDS = Unit("rounds saved", 1, 1)
LOGARITHM = Unit("(logarithm of how many times lower)", 1, 2, "logarithm of how many times lower")
_NUMBERS = "correlation, cosine, area or rate"
CORRELATION, COSINE = Unit("rank correlation", 1, 3, _NUMBERS), Unit("of cosine", 1, 3, _NUMBERS)
RATE = Unit("(area or rate)", 1, 3, _NUMBERS)


@dataclass(frozen=True)
class Asked:
    """A claim of the paper or its review."""

    key: str  # of this page
    short: str  # the claim in a few words
    source: str  # figure or table
    slug: str  # of the claim; "" where no scenario answers it
    scenario: str
    unit: Unit = POINTS
    says: str = ""  # of what no scenario answers
    why: str = ""  # it is not answered


_ABSTRACT, _REVIEW = "abstract", "review"
_WITH = (("prunefl", "rivals"), ("eflprune", "rivals"), ("fedmask", "personal"))  # rival, where it is run
ASKED = (
    Asked(
        "falsifier",
        "pruning by the map keeps accuracy",
        "abstract, Table III; what would refute it: review",
        "falsifier",
        "falsifier",
    ),
    Asked("accuracy", "accuracy at FedAvg's level", "abstract, Table III", "accuracy", "falsifier"),
    *(
        Asked(f"level-{name}", f"accuracy at the level of {RIVALS[name]}", "Table III", f"level-{name}", scenario)
        for name, scenario in _WITH
    ),
    Asked("compute-sparse", "compute −52 %, live weights", "abstract, Fig. 8", "compute-sparse", "falsifier", SAVED),
    Asked(
        "compute-compacted",
        "compute −52 %, smaller dense model",
        "abstract, Fig. 8",
        "compute-compacted",
        "falsifier",
        SAVED,
    ),
    Asked(
        "communication-values",
        "communication −65 %, values",
        "abstract, Fig. 8",
        "communication-values",
        "falsifier",
        SAVED,
    ),
    Asked(
        "communication-bitmask",
        "communication −65 %, with the mask",
        "abstract, Fig. 8",
        "communication-bitmask",
        "falsifier",
        SAVED,
    ),
    Asked("variance-living", "lower variance, live coordinates", "Fig. 3", "variance-living", "falsifier", LOGARITHM),
    Asked("variance-all", "lower variance, all coordinates", "Fig. 3", "variance-all", "falsifier", LOGARITHM),
    Asked("heavy-at-zero", "guidance heavy at zero", "Fig. 4", "heavy-at-zero", "falsifier", SHARE),
    Asked("whole-units", "whole units go", "Fig. 5", "whole-units", "falsifier", SHARE),
    Asked("refinement", "low agreement prunes too", "Fig. 6", "refinement", "falsifier", SHARE),
    Asked("convergence", "faster convergence than FedAvg", "Fig. 7", "convergence", "falsifier", ROUNDS),
    *(
        Asked(f"faster-{name}", f"faster convergence than {RIVALS[name]}", "Fig. 7", f"faster-{name}", scenario, ROUNDS)
        for name, scenario in _WITH
    ),
    Asked("graceful", "graceful under σ 0.1 on 20 %", "abstract, Fig. 9a-b", "graceful", "noise_magnitude"),
    Asked("graceful-others", "graceful under other noise", "Fig. 9a-b", "graceful-others", "noise_magnitude"),
    Asked("graceful-scope", "graceful under σ 0.1 on more clients", "abstract, Fig. 9c-d", "graceful", "noise_scope"),
    Asked("label-flips", "label flips are found", "abstract, Fig. 10", "label-flips", "label_flip", RATE),
    Asked("explorers", "few explorers are enough", "Fig. 11", "explorers", "explorers"),
    Asked("thresholds", "no T_p beats 0.3", "Fig. 12", "thresholds", "threshold"),
    Asked("map-random-weights", "map beats random weights", _REVIEW, "map-random-weights", "falsifier"),
    Asked("map-random-units", "map beats random units", _REVIEW, "map-random-units", "falsifier"),
    Asked("map-erk", "map beats ERK", _REVIEW, "map-erk", "falsifier"),
    Asked("map-magnitude", "map beats magnitude", _REVIEW, "map-magnitude", "falsifier"),
    Asked("stable-map", "one map is stable", _REVIEW, "stable-map", "stability", CORRELATION),
    Asked("exploring-again", "exploring again gains nothing", _REVIEW, "exploring-again", "reexploration"),
    Asked("drift", "less drift between clients", _REVIEW, "drift", "stability", COSINE),
    Asked(
        "table-3",
        "Table III on its own data and models",
        "Table III",
        "",
        "",
        says="State of the art on MNIST, CIFAR-10, CIFAR-100, Tiny ImageNet, FEMNIST and Shakespeare, with the paper's "
        "models.",
        why="The scenarios of this page learn scikit-learn's digits, which need no download. Whatever was measured is "
        "about them alone; with data of your own run a scenario with --set data=…, --set model=….",
    ),
)


@dataclass(frozen=True)
class AnsweredClaim:
    """A claim with what its scenario says."""

    asked: Asked
    claim: Claim
    command: str = ""  # that runs its scenario
    conditions: str = ""  # what the answer is about

    @property
    def deciding(self) -> Evidence | None:
        """The place that the answer rests on: of those with this answer, the one farthest from support."""
        alike = [e for e in self.claim.evidence if e.answer is self.claim.answer] or list(self.claim.evidence)
        return min(alike, key=_reserve, default=None)


def _reserve(found: Evidence) -> float:
    return found.interval.mean - (found.bound.support if found.bound is not None else 0.0)


@dataclass(frozen=True)
class Stage:
    """A scenario that was run: its records as a study, the command, and what it is about in words."""

    study: Study
    command: str
    conditions: str


def answered(stages: Mapping[str, Stage], absent: Mapping[str, str]) -> list[AnsweredClaim]:
    """Every claim, in the order of the paper, judged together.

    Args:
        stages: by the name of the scenario.
        absent: name of a scenario that was not run -> why.
    """
    found = {name: {c.slug: c for c in _all(stage.study)} for name, stage in stages.items()}
    told = [_tested(asked, stages, found, absent) for asked in ASKED]
    judged = judged_together([one.claim for one in told])
    return [replace(one, claim=claim) for one, claim in zip(told, judged, strict=True)]


def scenarios() -> list[str]:
    """Names of all scenarios that a claim asks for, each once."""
    return list(dict.fromkeys(asked.scenario for asked in ASKED if asked.scenario))


def _all(study: Study) -> Iterable[Claim]:
    """Of records; claims about runs without privacy last, so that theirs is the word."""
    return [*_others(study), *claims(study)]


def _unasked() -> Iterable[Claim]:
    """Without records: what is claimed."""
    nothing = pd.DataFrame(columns=["cell", "algorithm", "family", "seed", "facet", "attack", "clean", "accuracy"])
    study = Study([], nothing, [], {}, {}, {}, {}, 0)
    return [*_others(study), *of_paper(study)]


def _others(study: Study) -> Iterable[Claim]:
    return [
        *asked_by_review(study),
        heavy_at_zero(study),
        whole_units(study),
        refinement(study),
        *rivals(study),
    ]


def _tested(
    asked: Asked,
    stages: Mapping[str, Stage],
    found: Mapping[str, Mapping[str, Claim]],
    absent: Mapping[str, str],
) -> AnsweredClaim:
    if not asked.slug:
        return AnsweredClaim(asked, Claim(asked.key, asked.says, "", Answer.NOT_TESTED, needs=asked.why))
    stage = stages.get(asked.scenario)
    if stage is None:
        says = next(c.says for c in _unasked() if c.slug == asked.slug)
        return AnsweredClaim(asked, Claim(asked.slug, says, "", Answer.NOT_TESTED, needs=absent[asked.scenario]))
    return AnsweredClaim(asked, found[asked.scenario][asked.slug], stage.command, stage.conditions)
