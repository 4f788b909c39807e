"""Which figures the report has, in which order. A figure whose data the records do not have is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.reports.figures import (
    architecture as figures_architecture,
)
from autoflip_secure.reports.figures import (
    audit as figures_audit,
)
from autoflip_secure.reports.figures import (
    conditions as figures_conditions,
)
from autoflip_secure.reports.figures import (
    costs as figures_costs,
)
from autoflip_secure.reports.figures import (
    defence as figures_defence,
)
from autoflip_secure.reports.figures import (
    degradation as figures_degradation,
)
from autoflip_secure.reports.figures import (
    privacy as figures_privacy,
)
from autoflip_secure.reports.figures import (
    pruning as figures_pruning,
)
from autoflip_secure.reports.figures import (
    releases as figures_releases,
)
from autoflip_secure.reports.figures import (
    rounds as figures_rounds,
)
from autoflip_secure.reports.figures import (
    secure as figures_secure,
)
from autoflip_secure.reports.figures import (
    sensitivity as figures_sensitivity,
)
from autoflip_secure.reports.figures.style import Palette, Picture, drawing
from autoflip_secure.reports.study.comparisons import Row
from autoflip_secure.reports.study.privacy_groups import is_private
from autoflip_secure.reports.study.study import Study

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
