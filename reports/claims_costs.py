r"""Claims about cost: compute -52 % and communication -65 %, by everything that can be meant by them.

.. math:: \text{saving}_s = 1 - \text{cost}_s(\text{AutoFLIP}) / \text{cost}_s(\text{FedAvg})

over a whole run, exploration included, at the same seed; of several settings the mean per seed.
"""

from __future__ import annotations

from collections.abc import Callable

from autoflip_secure.record import Costs
from reports.findings import Bound, Claim, conclude, weigh
from reports.intervals import Interval
from reports.roles import clean, subject
from reports.statistics import complete
from reports.study import Study

COMPUTE, COMMUNICATION = 0.52, 0.65
TOLERANCE = 0.02  # "about": a saving that falls short by less counts
_ADD = "Add the algorithms fedavg and autoflip, without attack, at the same seeds."
Read = Callable[[Costs], float | None]


def compute(study: Study) -> list[Claim]:
    """Training operations of the whole run: with sparse kernels, and of the model that is really smaller."""
    rest = f"Holds when at least {_percent(COMPUTE - TOLERANCE)} of FedAvg's are saved, exploration included."
    return [
        _saving(
            study,
            "compute-sparse",
            "Compute falls by 52 % on average: counting only operations on live weights.",
            f"Floating-point operations of local training. They become time only with sparse kernels. {rest}",
            COMPUTE,
            [("operations", lambda c: c.flops.sparse, lambda c: c.flops.dense)],
        ),
        _saving(
            study,
            "compute-compacted",
            "Compute falls by 52 % on average: in the smaller dense model that is left without its dead units.",
            f"Floating-point operations of local training on the compacted model, on any hardware. {rest}",
            COMPUTE,
            [("operations", lambda c: c.flops.compacted, lambda c: c.flops.dense)],
            ("A dense model whose pruned weights are merely set to zero saves no operation at all.",),
        ),
    ]


def communication(study: Study) -> list[Claim]:
    """Bytes as encoded, both directions, with and without the mask on the wire."""
    rest = f"Holds when at least {_percent(COMMUNICATION - TOLERANCE)} of FedAvg's are saved in both directions."
    return [
        _saving(
            study,
            "communication-values",
            "Communication falls by 65 %: both sides know the mask, and only live values travel.",
            f"Bytes really encoded over the whole run, headers and exploration included. {rest}",
            COMMUNICATION,
            [
                ("up", lambda c: c.bytes.uplink_values, lambda c: c.bytes.uplink_values),
                ("down", lambda c: c.bytes.downlink_values, lambda c: c.bytes.downlink_values),
            ],
        ),
        _saving(
            study,
            "communication-bitmask",
            "Communication falls by 65 %: with the mask on the wire, one bit per prunable weight and message.",
            f"Bytes really encoded over the whole run, against FedAvg's, which sends no mask. {rest}",
            COMMUNICATION,
            [
                ("up", lambda c: c.bytes.uplink_bitmask, lambda c: c.bytes.uplink_values),
                ("down", lambda c: c.bytes.downlink_bitmask, lambda c: c.bytes.downlink_values),
            ],
        ),
    ]


def _saving(
    study: Study,
    slug: str,
    says: str,
    measured: str,
    target: float,
    readings: list[tuple[str, Read, Read]],
    notes: tuple[str, ...] = (),
) -> Claim:
    own = subject(study)
    evidence = []
    for name, cost, reference in readings:
        savings = {f: v for f in study.facets if own and (v := _savings(study, f, own, cost, reference))}
        facets, seeds = complete(savings)
        if not facets:
            continue
        values = {s: sum(savings[f][s] for f in facets) / len(facets) for s in seeds}
        bound = Bound(target - TOLERANCE, target - TOLERANCE, counted=True)
        found = weigh(name, values, bound, len(readings))
        over = f", mean over {len(facets)} settings" if len(facets) > 1 else ""
        evidence.append(found.saying(f"{_percent(found.interval.mean)} saved {_bracket(found.interval)}{over}"))
    needs = "" if evidence else _ADD
    if not evidence and own and slug == "compute-compacted":
        needs = f"{_ADD} Where they ran, the model could not be compacted."
    return Claim(slug, says, measured, conclude(evidence), tuple(evidence), needs, notes if evidence else ())


def _savings(study: Study, facet: str, own: str, cost: Read, reference: Read) -> dict[int, float]:
    if study.baseline is None:
        return {}
    condition = clean(study, facet)
    base = {r.seed: reference(r.costs) for r in study.runs(condition, study.baseline)}
    found = {}
    for run in study.runs(condition, own):
        paid, other = cost(run.costs), base.get(run.seed)
        if paid is not None and other:
            found[run.seed] = 1 - paid / other
    return found


def _percent(share: float) -> str:
    return (f"{100 * share:.1f} %" if share % 0.01 else f"{100 * share:.0f} %").replace("-", "−")


def _bracket(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"[no interval: {interval.reason}]"
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]".replace("-", "−")
