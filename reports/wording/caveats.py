"""What to keep in mind when reading a report: what is missing, weak, shared or assumed."""

from __future__ import annotations

from collections import Counter

from autoflip_secure.records.robustness import in_window, parts_of
from autoflip_secure.reports.study import labels, test_set
from autoflip_secure.reports.study.comparisons import Row
from autoflip_secure.reports.study.scoreboard import Standing
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.wording import privacy_caveats, tuning
from autoflip_secure.reports.wording.phrases import judgement, short_verdict
from autoflip_secure.terminal.counting import count_of, listed

OUR_READING = (
    "AutoFLIP here is our reading of the paper (arXiv 2405.10271): its full text, and code with agreement scoring, are "
    "not public. What the paper leaves open is a named choice in the configuration below."
)


def caveats_of(study: Study, weak: list[str], rows: list[Row], missing: int) -> list[str]:
    """Every caveat that this sweep gives reason for, the most important first; ``weak``: where it stands worst."""
    found = []
    if missing:
        done = len(study.cells)
        found.append(
            f"Incomplete: {missing} of {done + missing} cells are missing; the rest covers the {done} that are done."
        )
    found += privacy_caveats.caveats(study)
    found += [*_personal(study), *_own_masks(study), *_clean_data(study), *weak]
    found += tuning.caveats(study)
    counts = study.cells.groupby(["facet", "attack", "algorithm"])["seed"].nunique()
    fewest, most = int(counts.min()), int(counts.max())
    seeds = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    text = f"{seeds} seed{'s' if most != 1 else ''} per cell. "
    if most == 1:
        text += "One seed gives no interval: nothing here says how much another seed would change."
    else:
        text += (
            "Intervals are 95 % t intervals over seeds, differences are paired by seed. Words are corrected for "
            "multiple comparisons (Holm), intervals are not: one that only just excludes zero may be a “cannot tell”."
        )
        if fewest != most:
            text += (
                " Where algorithms or conditions have different seeds, a difference uses the seeds that both have and "
                "a mean over conditions those that every condition has; n says how many."
            )
        if fewest == 1:
            text += " A condition with one seed has no interval."
        floor = 2 / 2**most
        if floor > 0.05:
            text += (
                f" With {most} seeds Wilcoxon's test cannot go below p = {floor:.2g}, so it alone can prove nothing."
            )
    found.append(text)
    found += [*_other_samples(rows), *_windows(study)]
    found += _attackers(study)
    if any(f.startswith("autoflip") for f in study.families.values()):
        found.append(OUR_READING)
    found += _events(study)
    return found


def _personal(study: Study) -> list[str]:
    """Which model is tested, where it is not the global one."""
    runs = sum(record.personal is not None for record in study.records)
    if not runs:
        return []
    where = "" if runs == len(study.records) else f"In {count_of(runs, 'run')} of {len(study.records)}, "
    return [
        f"{where}{'accuracy' if where else 'Accuracy'} is personal: the mean over honest clients of each one's own "
        "model on rows of its own that nobody trains on, every client alike. The worst client and the spread over "
        "clients are in the statistics table. Malicious clients are left out. It is not comparable with the accuracy "
        "of a global model on the test set."
    ]


def _own_masks(study: Study) -> list[str]:
    """What densities, layers and costs are, where every client prunes for itself."""
    own = [(row.algorithm, record) for row, record in study.rows if (s := record.client_state) and s.own_mask]
    who = list(dict.fromkeys(algorithm for algorithm, _ in own))
    if not who:
        return []
    found = [
        f"{listed(who)}: every client has a mask of its own, so shares of weights, layers and operations of a model "
        "are means over clients."
    ]
    if shared := list(dict.fromkeys(algorithm for algorithm, record in own if record.personal is None)):
        found.append(
            f"{listed(shared)}: what is tested is the server's mean of all clients' models, on the test set, and no "
            "client uses it. For clients' own models, and FedAvg's on the same rows beside them, set evaluation: "
            "personal."
        )
    return found


def _clean_data(study: Study) -> list[str]:
    """Who had what the others had not."""
    owned: dict[str, set[int]] = {}
    for row, record in study.rows:
        if record.root_set is not None:
            owned.setdefault(row.algorithm, set()).add(record.root_set.samples)
    if not owned:
        return []
    sizes = {algorithm: listed([f"{size:,}" for size in sorted(found)]) for algorithm, found in owned.items()}
    who = "; ".join(f"{labels.pretty(algorithm)}: {found} samples" for algorithm, found in sizes.items())
    return [
        f"The server has clean data ({who}), taken from the clients' training data, and trains on them in every round. "
        "What that costs is in no number of this report, and clients train on as many samples less. Defences without "
        "clean data are compared with one that has some."
    ]


def _attackers(study: Study) -> list[str]:
    """Whether they adapt, which is known of this package's own only; nothing where nobody attacks."""
    kinds = dict.fromkeys(kind for attack in study.attacks.values() for kind in labels.kinds_of(attack))
    knows = {one.kind: one.knowledge for record in study.records for one in record.threats or ()}

    def those(knowledge: str) -> str:
        return ", ".join(labels.kind_words(kind) for kind in kinds if knows.get(kind) == knowledge)

    own = "The attacks are fixed ones: none of them adapts to the defence it meets."
    if adaptive := those("defence"):
        own = f"Attacks that know the defence and try what it would do: {adaptive}. The others are fixed ones."
    for knowledge, what in (
        ("rows", "every update of the round"),
        ("colluders", "the updates of all malicious clients"),
    ):
        own += f" Attacks that know {what}: {named}." if (named := those(knowledge)) else ""
    others = [kind for kind in kinds if kind not in ("none", *labels.BUILT_IN_ATTACKS, *knows)]
    if not others:
        return [own] if any(kind != "none" for kind in kinds) else []
    unknown = (
        f"{', '.join(map(labels.kind_words, others))}: not of this package, so that nothing is known here of how "
        "strong it is meant to be, or whether it adapts to the defence it meets. "
    )
    return [unknown + (own if knows else "The attacks of this package are fixed ones.")]


def _other_samples(rows: list[Row]) -> list[str]:
    """What intervals over seeds leave out, since all seeds are tested on the same samples."""
    known = [row for row in rows if row.samples is not None]
    if not known:
        return []
    sizes = sorted({row.samples for row in known if row.samples is not None})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    most = max(test_set.error(row.accuracy.mean, row.samples or 1) for row in known)
    text = (
        f"All seeds share one test set of {size} samples, so intervals over seeds say nothing about other samples: "
        f"those could move an accuracy here by up to ± {100 * test_set.NORMAL * most:.1f} points (95 %, binomial), "
        "however many seeds there are; the statistics table has an interval for every accuracy that includes this."
    )
    pairs = [
        test_set.error_of_difference(row.accuracy.mean, row.accuracy.mean - row.against.difference.mean, row.samples)
        for row in known
        if row.against is not None and row.samples is not None
    ]
    if pairs:
        text += (
            " Differences are taken on the same samples: others could move them by ± "
            f"{100 * test_set.NORMAL * max(pairs):.1f} points at the very most, by far less where two algorithms fail "
            "on the same samples. How often they do is not recorded, so no word accounts for it: words are about "
            "this test set."
        )
    return [text]


def _windows(study: Study) -> list[str]:
    """Runs in which the attack begins or ends among the evaluations that are averaged."""
    mixed = 0
    for record in study.records:
        windows = [one.get("window") or {} for one in parts_of(record.config.get("attack"))]
        counted = study.outcome.counted(record)
        mixed += any(len({in_window(window, entry.round) for entry in counted}) > 1 for window in windows)
    if not mixed:
        return []
    return [
        f"In {count_of(mixed, 'run')} the attack begins or ends among the evaluations that are averaged: accuracy "
        "there is in part that of rounds without attack. `outcome: last` uses the last one alone."
    ]


def weak_points(study: Study, table: list[Standing]) -> list[str]:
    """Where the algorithms of the headline stand worst."""
    found = []
    for head in table:
        weakest = head.weakest
        if head.algorithm not in study.headline or weakest is None or weakest.against is None:
            continue
        total = sum(head.tally.values())
        text = f"{head.algorithm} "
        if total:
            counted = [f"{short_verdict(v)} in {n}" for v, n in head.tally.items() if n]
            text += f"against {study.baseline}, {count_of(total, 'attacked condition')}: {', '.join(counted)}. It "
        text += f"does worst under {weakest.condition}: {judgement(weakest.against)}."
        found.append(text)
    return found


def _why(study: Study) -> str:
    """Why updates were rejected, by what the runs that rejected some can find fault with."""
    reasons = {"not finite": None}
    for record in study.records:
        parties = record.config.get("secure_sum") or {}
        if parties.get("updates") and any(e.rejected for e in record.rounds):
            reasons |= {"not accepted by the parties": None}
    return " or ".join(reasons)


def _events(study: Study) -> list[str]:
    runs = [r for r in study.records if r.events]
    rejected = sum(len(e.rejected) for r in study.records for e in r.rounds)
    found = []
    if rejected:
        found.append(
            f"Left out because {_why(study)}: {count_of(rejected, 'update')}; the clients counted as filtered."
        )
    if runs:
        example = labels.shorten(labels.clean_text(runs[0].events[0]), 160)
        found.append(
            f"{len(runs)} of {count_of(len(study.records), 'run')} left a note, for instance “{example}”; "
            "all are under Reproducibility."
        )
    uncounted = Counter(r.costs.compaction for r in study.records if r.costs.flops.dense is None)
    if uncounted:
        found.append(f"In {count_of(uncounted.total(), 'run')}, shown as –, {_most(uncounted)}.")
    counted = [r.costs for r in study.records if r.costs.flops.dense is not None]
    reasons = Counter(costs.compaction for costs in counted if costs.compaction != "ok")
    if reasons:
        found.append(
            f"{count_of(reasons.total(), 'run')} could not be compacted to a smaller dense model, so their costs are "
            f"counted for sparse kernels alone: {_most(reasons)}."
        )
    return found


def _most(reasons: Counter[str]) -> str:
    """The most common reason, and how many have others."""
    reason, count = reasons.most_common(1)[0]
    more = f"; {reasons.total() - count} for other reasons" if len(reasons) > 1 else ""
    return f"{labels.shorten(labels.clean_text(reason), 300)}{more}"
