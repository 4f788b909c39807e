"""Which figures the report has, in which order. A figure whose data the records do not have is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoflip_secure.audit_record import AuditRecord
from reports import (
    figures_architecture,
    figures_audit,
    figures_conditions,
    figures_costs,
    figures_defence,
    figures_degradation,
    figures_privacy,
    figures_pruning,
    figures_releases,
    figures_rounds,
    figures_secure,
    figures_sensitivity,
)
from reports.comparisons import Row
from reports.privacy_groups import is_private
from reports.study import Study
from reports.style import Palette, Picture, drawing

Maker = Callable[[], Picture | list[Picture] | None]


@dataclass(frozen=True)
class Section:
    """A heading of the contents list, and its figures."""

    slug: str
    title: str
    pictures: list[Picture]


def sections(study: Study, rows: Sequence[Row], audits: Sequence[AuditRecord] = ()) -> list[Section]:
    """Draw every figure that the records have data for."""
    palette, comparisons = Palette(study), list(rows)
    plan: list[tuple[str, str, list[Maker]]] = [
        (
            "robustness",
            "Robustness",
            [
                lambda: figures_degradation.degradation(study, palette),
                lambda: figures_sensitivity.sensitivity(study, palette),
                lambda: figures_conditions.dots(study, palette, comparisons, difference=False),
                lambda: figures_conditions.dots(study, palette, comparisons, difference=True),
            ],
        ),
        (
            "training",
            "Training",
            [
                lambda: figures_rounds.convergence(study, palette),
                lambda: figures_rounds.update_variance(study, palette),
            ],
        ),
        (
            "defence",
            "Who is trusted",
            [lambda: figures_defence.score_map(study), lambda: figures_defence.detection_roc(study, palette)],
        ),
        (
            "pruning",
            "What is pruned",
            [
                lambda: figures_pruning.guidance_histogram(study, palette),
                lambda: figures_pruning.importance(study, palette),
                lambda: figures_pruning.layers(study, palette),
                lambda: figures_architecture.architecture(study, palette),
            ],
        ),
        (
            "cost",
            "What it costs",
            [
                lambda: figures_costs.against_bytes(study, palette),
                lambda: figures_costs.against_operations(study, palette),
            ],
        ),
        (
            "privacy",
            "What privacy costs",
            [
                lambda: figures_privacy.utility(study, palette),
                lambda: figures_privacy.detection(study, palette),
                lambda: figures_privacy.robustness(study, palette),
                lambda: figures_releases.costs(study),
                lambda: figures_releases.over_rounds(study),
            ]
            if is_private(study)
            else [],
        ),
        ("secure", "What the parties hid", [lambda: figures_secure.costs(study)]),
        (
            "audit",
            "What attackers achieved",
            [
                lambda: figures_audit.bounds(audits),
                lambda: figures_audit.membership(audits),
                lambda: figures_audit.labels(audits),
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
