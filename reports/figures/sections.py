"""Which figures the report has, in which order. A figure whose data the records do not have is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.reports.figures import (
    architecture,
    arrivals,
    audit,
    backdoor,
    conditions,
    costs,
    defence,
    degradation,
    effects,
    mask_overlaps,
    privacy,
    pruning,
    releases,
    rounds,
    secure,
    sensitivity,
    stability,
    tuning,
    worst_case,
)
from autoflip_secure.reports.figures.style import Palette, Picture, drawing
from autoflip_secure.reports.study.comparisons import Row
from autoflip_secure.reports.study.contrasts import Effects
from autoflip_secure.reports.study.privacy_groups import is_private
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.threat_cards import Cards
from autoflip_secure.reports.study.tuned import choices
from autoflip_secure.reports.study.worst_cases import WorstCases

Maker = Callable[[], Picture | list[Picture] | None]


@dataclass(frozen=True)
class Section:
    """A heading of the contents list, and its figures."""

    slug: str
    title: str
    pictures: list[Picture]


def sections(
    study: Study,
    rows: Sequence[Row],
    audits: Sequence[AuditRecord] = (),
    worst: Sequence[WorstCases] = (),
    asked: Study | None = None,
    crossed: Effects | None = None,
) -> list[Section]:
    """Draw every figure that the records have data for.

    Args:
        study: by algorithms.
        rows: the comparisons of ``asked``.
        audits: of its cells.
        worst: worst cases of a sweep with a suite.
        asked: by what the scenario compares; left out: ``study``.
        crossed: effects of a sweep that compares several things.
    """
    palette, comparisons, cards = Palette(study), list(rows), Cards(study)
    asked = study if asked is None else asked
    shades = Palette(asked)
    plan: list[tuple[str, str, list[Maker]]] = [
        (
            "worst-case",
            "Worst case",
            [lambda: worst_case.worst_bars(worst, palette, cards), lambda: worst_case.heat_map(worst, cards)],
        ),
        ("effects-and-interactions", "What does what", [lambda: effects.pictures(crossed)]),
        (
            "robustness",
            "Robustness",
            [
                lambda: degradation.degradation(asked, shades),
                lambda: sensitivity.sensitivity(study, palette),
                lambda: conditions.dots(asked, shades, comparisons, difference=False),
                lambda: conditions.dots(asked, shades, comparisons, difference=True),
            ],
        ),
        ("tuning", "Tuning", [lambda: tuning.tuning_curves(choices(study), palette)]),
        (
            "backdoors",
            "Backdoors",
            [lambda: backdoor.over_rounds(study, palette), lambda: backdoor.against_density(study, palette)],
        ),
        (
            "training",
            "Training",
            [
                lambda: rounds.convergence(study, palette),
                lambda: rounds.update_variance(study, palette),
                lambda: stability.stability(study, palette),
                lambda: mask_overlaps.mask_overlap(study, palette),
            ],
        ),
        (
            "defence",
            "Who is trusted",
            [lambda: defence.score_map(study), lambda: defence.detection_roc(study, palette)],
        ),
        (
            "pruning",
            "What is pruned",
            [
                lambda: pruning.guidance_histogram(study, palette),
                lambda: pruning.importance(study, palette),
                lambda: pruning.layers(study, palette),
                lambda: architecture.architecture(study, palette),
            ],
        ),
        (
            "cost",
            "What it costs",
            [
                lambda: costs.against_bytes(study, palette),
                lambda: costs.against_operations(study, palette),
                lambda: arrivals.to_target(study, palette),
            ],
        ),
        (
            "privacy",
            "What privacy costs",
            [
                lambda: privacy.utility(study, palette),
                lambda: privacy.detection(study, palette),
                lambda: privacy.robustness(study, palette),
                lambda: releases.costs(study),
                lambda: releases.over_rounds(study),
            ]
            if is_private(study)
            else [],
        ),
        ("secure", "What the parties hid", [lambda: secure.costs(study)]),
        (
            "audit",
            "What attackers achieved",
            [
                lambda: audit.bounds(audits),
                lambda: audit.membership(audits),
                lambda: audit.labels(audits),
            ]
            if audits
            else [],
        ),
    ]
    return draw(plan)


def draw(plan: Sequence[tuple[str, str, Sequence[Maker]]]) -> list[Section]:
    """Run the makers of every (slug, title, makers); sections without a picture are left out."""
    found = []
    with drawing():
        for slug, title, makers in plan:
            pictures: list[Picture] = []
            for make in makers:
                drawn = make()
                pictures += drawn if isinstance(drawn, list) else [drawn] if drawn is not None else []
            if pictures:
                found.append(Section(slug, title, pictures))
    return found
