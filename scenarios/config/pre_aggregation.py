"""What goes with pre-aggregators, and how many rows a rule takes: refused before anything runs, or sound.

| with | why not |
|---|---|
| secure sums | every pre-aggregator looks at rows (said by ``hindrance`` of the aggregator) |
| masks of the clients' own | what a client does not hold is no zero that it sent |
| a memory of rows elsewhere than first | it remembers what clients sent |
| bucketing before an aggregator that remembers single clients | a bucket is no client |
| bucketing into so few buckets that malicious ones need not be a minority | no rule stands that |
"""

from __future__ import annotations

from autoflip_secure.federation.aggregating import Assumed, bucketed_f, recalls
from autoflip_secure.interfaces import Aggregator
from autoflip_secure.scenarios.config.fields import Fields
from autoflip_secure.scenarios.config.messages import kind_of

PLACE = "algorithm.aggregator"


def obstacle(settings: Fields) -> tuple[str, str, str] | None:
    """The key that is in the way, the sentence about it, and the key that it does not go with; None: all is well."""
    aggregator = settings.algorithm.aggregator
    rows = settings.clients if settings.sampling == "poisson" else min(settings.cohort, settings.clients)
    most = rows = settings.clients if recalls(aggregator) else rows
    where = "clients" if settings.sampling == "poisson" else "cohort"
    if aggregator.before and settings.algorithm.pruner.several_masks:
        kind = kind_of(type(settings.algorithm.pruner))
        return f"{PLACE}.before", (
            f"{_kinds(aggregator)}: works with whole rows, and with the pruner {kind} every client holds other "
            "coordinates: what one does not hold is no zero that it sent; set before: [], or use another pruner"
        ), "algorithm"  # fmt: skip
    f = None
    for place, one in enumerate(aggregator.before):
        if one.remembers and place > 0:
            return f"{PLACE}.before.{place}", (
                f"{kind_of(type(one))}: remembers what clients sent, so it stands first in before; move it there"
            ), "algorithm"  # fmt: skip
        if one.keeps_clients:
            continue
        key, kind = f"{PLACE}.before.{place}", kind_of(type(one))
        if aggregator.remembers in ("clients", "rows"):
            return key, (
                f"{kind}: mixes clients, and {kind_of(type(aggregator))} remembers single ones; leave it out, or use "
                "nnm, clip or arc"
            ), "algorithm"  # fmt: skip
        f, after = bucketed_f(aggregator, rows) if f is None else f, one.rows_after(rows)
        if 2 * f >= after and settings.sampling == "fixed":
            return key, (
                f"{kind}: of {rows} rows {f} are assumed malicious, and they can be in {f} of {after} rows that "
                f"come of them, which is not below half; give smaller buckets, a larger {where} or a smaller bad_share"
            ), "cohort"  # fmt: skip
        rows = after
    assumed = Assumed.of(aggregator, most).rules.get(kind_of(type(aggregator)), 0)
    fault = aggregator.fault(rows, assumed)
    return None if fault is None else (f"{PLACE}.{fault[0]}", fault[1], where)


def _kinds(aggregator: Aggregator) -> str:
    return ", ".join(kind_of(type(one)) for one in aggregator.before)
