r"""Claims about cost: compute -52 % and communication -65 %, by everything that can be meant by them.

.. math:: \text{saving}_s = 1 - \text{cost}_s(\text{AutoFLIP}) / \text{cost}_s(\text{FedAvg})

over a whole run, exploration included, at the same seed. Compute is claimed to fall *on average*: of several settings
the mean per seed is judged, and each is printed. Communication is claimed to fall by *over* 65 %: each setting is
judged by itself, and 65 % is not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autoflip_secure.records.run import Costs
from autoflip_secure.reports.claims.findings import BOTH, Bound, Claim, Evidence, conclude, over, weigh
from autoflip_secure.reports.claims.subjects import clean, subject
from autoflip_secure.reports.statistics.paired import complete
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording.phrases import bracket

COMPUTE, COMMUNICATION = 0.52, 0.65
TOLERANCE = 0.02  # of compute, "on average": a saving that falls short by less counts
Read = Callable[[Costs], float | None]


def compute(study: Study) -> list[Claim]:
    """Training operations of the whole run: with sparse kernels, and of the model that is really smaller."""
    rest = (
        f"Holds when at least {_percent(COMPUTE - TOLERANCE)} of FedAvg's are saved in the mean over settings, "
        "exploration included."
    )
    return [
        _claim(
            study,
            "compute-sparse",
            "Compute falls by 52 % on average: counting only operations on live weights.",
            f"Floating-point operations of local training. They save time only with sparse kernels. {rest}",
            _average(study, lambda c: c.flops.sparse, lambda c: c.flops.dense),
        ),
        _claim(
            study,
            "compute-compacted",
            "Compute falls by 52 % on average: in the smaller dense model that is left without its dead units.",
            f"Floating-point operations of local training on the compacted model, on any hardware. {rest}",
            _average(study, lambda c: c.flops.compacted, lambda c: c.flops.dense),
            ("A dense model whose pruned weights are merely set to zero saves no operation at all.",),
        ),
    ]


def communication(study: Study) -> list[Claim]:
    """Bytes as encoded, both directions, with and without the mask on the wire."""
    rest = f"Holds when more than {_percent(COMMUNICATION)} of FedAvg's are saved in every setting, in both directions."
    plain: tuple[Read, Read] = (lambda c: c.bytes.uplink_values, lambda c: c.bytes.downlink_values)
    masked: tuple[Read, Read] = (lambda c: c.bytes.uplink_bitmask, lambda c: c.bytes.downlink_bitmask)
    return [
        _claim(
            study,
            "communication-values",
            "Communication falls by over 65 %: both sides know the mask, and only live values travel.",
            f"Bytes actually encoded over the whole run, headers and exploration included. {rest}",
            _each(study, (plain[0], plain[0]), (plain[1], plain[1])),
        ),
        _claim(
            study,
            "communication-bitmask",
            "Communication falls by over 65 %: with the mask on the wire, one bit per prunable weight and message.",
            f"Bytes actually encoded over the whole run, against FedAvg's, which sends no mask. {rest}",
            _each(study, (masked[0], plain[0]), (masked[1], plain[1])),
        ),
    ]


def _claim(
    study: Study, slug: str, says: str, measured: str, evidence: Sequence[Evidence], notes: tuple[str, ...] = ()
) -> Claim:
    needs = "" if evidence else BOTH
    if not evidence and subject(study) and slug == "compute-compacted":
        needs = f"{BOTH} Where they ran, the model could not be compacted."
    uncounted = next((r.costs.compaction for r in study.records if r.costs.flops.dense is None), None)
    if not evidence and uncounted is not None and slug.startswith("compute"):
        needs = f"Where it ran, {uncounted}."
    return Claim(slug, says, measured, conclude(evidence), tuple(evidence), needs, notes if evidence else ())


def _average(study: Study, cost: Read, reference: Read) -> list[Evidence]:
    """The mean over settings, at the seeds that all of them have; each setting's own mean beside it."""
    savings = _savings(study, cost, reference)
    facets, seeds = complete(savings)
    if not facets:
        return []
    values = {s: sum(savings[f][s] for f in facets) / len(facets) for s in seeds}
    found = weigh("operations", values, Bound(COMPUTE - TOLERANCE, COMPUTE - TOLERANCE, counted=True))
    text = _saved(found)
    if len(facets) > 1:
        each = ", ".join(f"{f} {_percent(sum(savings[f].values()) / len(savings[f]))}" for f in facets)
        text += f", mean over {len(facets)} settings ({each})"
    return [found.saying(text)]


def _each(study: Study, up: tuple[Read, Read], down: tuple[Read, Read]) -> list[Evidence]:
    """Every setting by itself, both ways."""
    ways = {way: _savings(study, *read) for way, read in (("up", up), ("down", down))}
    places = [(facet, way) for facet in study.facets for way, savings in ways.items() if facet in savings]
    found = [weigh(f"{facet}, {way}", ways[way][facet], over(COMMUNICATION), len(places)) for facet, way in places]
    return [one.saying(_saved(one)) for one in found]


def _saved(found: Evidence) -> str:
    return f"{_percent(found.interval.mean)} saved {bracket(found.interval).replace('-', '−')}"


def _savings(study: Study, cost: Read, reference: Read) -> dict[str, dict[int, float]]:
    """Facet -> seed -> share of FedAvg's cost that AutoFLIP saves, where both ran without attack."""
    own, base = subject(study), study.baseline
    found: dict[str, dict[int, float]] = {}
    for facet in study.facets if own and base else ():
        other = {r.seed: reference(r.costs) for r in study.runs(clean(study, facet), base or "")}
        for run in study.runs(clean(study, facet), own or ""):
            paid, whole = cost(run.costs), other.get(run.seed)
            if paid is not None and whole:
                found.setdefault(facet, {})[run.seed] = 1 - paid / whole
    return found


def _percent(share: float) -> str:
    """A share with one digit, and none where it is a whole number.

    >>> _percent(0.65), _percent(0.6513), _percent(-0.021)
    ('65 %', '65.1 %', '−2.1 %')
    """
    return f"{100 * share:.1f} %".replace(".0 %", " %").replace("-", "−")
