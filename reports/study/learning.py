r"""Whether training worked at all: said before anything is compared, with the numbers, and with what to do about it.

Judged is the *reference* of a setting: FedAvg that nobody attacks, without privacy (where FedAvg was not run, the
algorithm that did best; where all is private, the privacy that did best). Once it has learned, whatever else falls to
chance there is what was asked: an attack, a defence, a price of privacy. Of those runs only facts are told. With C
classes, a reference

- *diverged* when in any run a loss is not finite, every update of a round was left out, or the last losses are above
  :data:`FAR` times that of guessing, :math:`\ln C`, having risen or with nothing learned (:class:`Course`);
- is *hardly better than chance* when its accuracy is under :math:`c + 0.1\,(1 - c)`, with :math:`c` the share of the
  test set's largest class, and under :math:`3 c`. After one round that is told, and is no failure yet.

Features are *not scaled* when the root mean square of a column is above :data:`UNSCALED`; that is told as the cause of
either, and by itself from :data:`HUGE` on. Seeds are *equal* when two of them have the same losses to the last bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import without
from autoflip_secure.records.curve import Curve
from autoflip_secure.records.run import FeatureScale, RunRecord
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.labels import percent
from autoflip_secure.reports.study.losses import FAR, Course, chance_of, guess_of, loss, scale_of, short
from autoflip_secure.reports.study.privacy import NO_PRIVACY, protection
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.terminal.counting import some

LEARNED, TIMES = 0.1, 3  # of the way from guessing to perfect, or as many times as often right as guessing
UNSCALED, HUGE = 10.0, 1000.0  # root mean squares; that of standardised columns is 1
ABOVE = 1.5  # times the loss of guessing: weights that have gone astray, whether losses fall now or not
STILL = 0.01  # losses that change by a smaller share of themselves stand still
SHOWN = 3  # settings or places in one sentence
_BESIDE = ("privacy", "secure_sum", "sampling")  # of a facet: not what is learned, but how it is protected


@dataclass(frozen=True)
class Finding:
    """One sentence or two. ``refuses``: a baseline of such runs would hold later ones against nothing."""

    kind: Literal["diverged", "unlearned", "features", "equal seeds", "facts"]
    text: str
    refuses: bool


@dataclass(frozen=True)
class Reference:
    """The runs by which a setting is judged."""

    facet: str
    algorithm: str
    runs: Sequence[RunRecord]
    accuracy: float  # mean over seeds
    private: bool

    @property
    def place(self) -> str:
        """In words."""
        return f"{self.algorithm} without attack {'' if self.facet.startswith('in ') else 'in '}{self.facet}"


def findings(study: Study) -> list[Finding]:
    """What must be said of this sweep's training; nothing where it worked."""
    judged = references(study)
    failed = [(one, found) for one in judged if (found := _judged(one)) is not None]
    shown = SHOWN if len(failed) > SHOWN + 1 else len(failed)
    told = [found for _, found in failed[:shown]]
    if len(failed) > shown:
        more = [f"{one.facet} ({percent(one.accuracy)} accuracy)" for one, _ in failed[shown:]]
        text = f"Training failed in {len(more)} more settings: {some(more, SHOWN, '; ')}."
        told.append(Finding("unlearned", text, any(found.refuses for _, found in failed[shown:])))
    others = _others(study, [run for one in judged for run in one.runs])
    features = _features(study, [one for one, _ in failed], judged, others)
    return [*told, *features, *_equal(study), *([others] if others else [])]


def references(study: Study) -> list[Reference]:
    """One for every setting that was run without attack."""
    groups: dict[str, list[Reference]] = {}
    for facet, config in study.facets.items():
        key = canonical(without(config, *_BESIDE))
        private = protection(config.get("privacy")) != NO_PRIVACY
        for algorithm in study.algorithms:
            condition = Condition(facet, labels.NO_ATTACK)
            values = study.values(condition, algorithm)
            if values:
                one = Reference(facet, algorithm, study.runs(condition, algorithm), fmean(values.values()), private)
                groups.setdefault(key, []).append(one)
    return [
        max(group, key=lambda one: (not one.private, one.algorithm == study.baseline, one.accuracy))
        for group in groups.values()
    ]


def _judged(one: Reference) -> Finding | None:
    """What is wrong with a reference, if anything."""
    courses, chance = [Course.of(run) for run in one.runs], chance_of(one.runs[0])
    learned = one.accuracy >= min(chance + LEARNED * (1 - chance), TIMES * chance)
    far = FAR * guess_of(one.runs[0])
    diverged = [
        course
        for course in courses
        if course.broken or course.left_out or (not one.private and (course.far or (not learned and course.last > far)))
    ]
    accuracy = f"{percent(one.accuracy)} accuracy, where answering the largest class gives {percent(chance)}"
    best = fmean(course.best for course in courses)
    if best >= chance + 2 * LEARNED * (1 - chance):
        accuracy += f", after up to {percent(best)} on the way"
    if diverged:
        signs = [f"{len(diverged)} of {len(courses)} runs", *_signs(one, diverged), *([] if learned else [accuracy])]
        return Finding("diverged", f"Training diverged, {one.place}: {'; '.join(signs)}. {_scaling(one)}", True)
    if learned:
        return None
    advice = f"Differences and claims there are about models that have hardly learned anything. {_advice(one, courses)}"
    begun = max(len(run.curve.round) for run in one.runs) > 1  # after a single round nobody expects more
    return Finding("unlearned", f"Hardly better than chance, {one.place}: {accuracy}. {advice}", refuses=begun)


def _signs(one: Reference, diverged: Sequence[Course]) -> list[str]:
    """By what it shows that runs diverged."""
    signs = []
    rising = [course.rise for course in diverged if course.rise is not None and course.far]
    broken = [course.broken for course in diverged if course.broken]
    left_out = max(course.left_out for course in diverged)
    if rising:
        first, last = max(rising, key=lambda ends: ends[1])
        signs.append(f"the loss rises from {short(first)} to {short(last)} (guessing: {loss(guess_of(one.runs[0]))})")
    if not rising and not broken and not left_out:
        last = max(course.last for course in diverged)
        signs.append(f"the loss is {short(last)} in the end (guessing: {loss(guess_of(one.runs[0]))})")
    if broken:
        signs.append(f"a loss is not finite, first in round {min(broken)}")
    if left_out:
        signs.append(f"every update was left out in {left_out} of {len(one.runs[0].curve.round)} rounds")
    return signs


def _advice(one: Reference, courses: Sequence[Course]) -> str:
    """The way out for a reference that has not learned, by how its losses go."""
    scale = scale_of(one.runs[0])
    if scale is not None and scale.largest > UNSCALED:
        return _scaling(one)
    if one.private:
        return "The noise of privacy is in these runs: allow a larger epsilon, or take more clients or samples."
    first, last = fmean(course.first for course in courses), fmean(course.last for course in courses)
    course, guess = f"Losses go from {loss(first)} to {loss(last)}", guess_of(one.runs[0])
    if last > ABOVE * guess:
        return f"{course}, well above the {loss(guess)} of guessing: lower training.lr ({_rates(one)} here)."
    if last < first * (1 - STILL):
        return f"{course}: more rounds would help."
    if last > first * (1 + STILL):
        return f"{course}, so they rise: lower training.lr ({_rates(one)} here)."
    return f"{course}, so they do not change: try a smaller and a larger training.lr ({_rates(one)} here)."


def _scaling(one: Reference) -> str:
    """The way out of divergence."""
    scale, rate = scale_of(one.runs[0]), f"lower training.lr ({_rates(one)} here)"
    if scale is None:
        return f"Scale the features, or {rate}."
    if scale.largest > UNSCALED:
        return f"The features are not scaled: {_column(scale)}. Scale the features, or {rate}."
    return f"{rate[0].upper()}{rate[1:]}; the features are scaled (root mean square at most {short(scale.largest)})."


def _features(
    study: Study, failed: Sequence[Reference], judged: Sequence[Reference], others: Finding | None
) -> list[Finding]:
    """Features that are not scaled, where no reference has named them already."""
    named, known = ({_data(study.facets[one.facet]) for one in group} for group in (failed, judged))
    found: dict[str, Finding] = {}
    for record in study.records:
        data, scale = _data(record.config), scale_of(record)
        if scale is None or data in named or data in found:
            continue
        blamed = data not in known and others is not None  # nobody ran without attack, and something broke
        if scale.largest > (UNSCALED if blamed else HUGE):
            text = f"The features are not scaled: {_column(scale)}. Unless the model scales them itself, scale them."
            found[data] = Finding("features", text, blamed)
    return list(found.values())


def _equal(study: Study) -> list[Finding]:
    """Seeds that gave one and the same run, though data, weights and cohorts are drawn from them."""
    places, sets = [], 0
    for condition in study.conditions:
        for algorithm in study.algorithms:
            runs = study.runs(condition, algorithm)
            curves = [run.curve for run in runs]
            courses = [_bits(curve) for curve in curves if any(curve.train_loss) or any(curve.test_loss)]
            sets += len(runs) > 1
            if len(set(courses)) < len(courses):
                places.append(f"{algorithm}, {condition}")
    if not places:
        return []
    text = (
        f"Seeds are equal: two or more have the same losses to the last bit in {len(places)} of {sets} sets of runs "
        f"({some(places, SHOWN, '; ')}), so intervals over seeds say nothing there. Something fixes what seeds should "
        "draw, such as a model that seeds itself."
    )
    return [Finding("equal seeds", text, True)]


def _bits(curve: Curve) -> tuple[tuple[float | None, ...], ...]:
    """What two different runs do not share to the last bit."""
    return tuple(zip(curve.train_loss, curve.test_loss, curve.test_accuracy, curve.step_norm, strict=True))


def _others(study: Study, judged: Iterable[RunRecord]) -> Finding | None:
    """Facts about runs that are attacked, defended or private: no judgement, for this may be what was asked."""
    known = {run.cell for run in judged}
    rest = [(f"{a}, {c}", run) for c in study.conditions for a in study.algorithms for run in study.runs(c, a)]
    rest = [(place, run) for place, run in rest if run.cell not in known]
    places = Counter(place for place, run in rest if (course := Course.of(run)).broken or course.left_out)
    if not places:
        return None
    runs = f"{places.total()} of {len(rest)} {'other ' if known else ''}runs"
    named = some([f"{place}: {count}" for place, count in places.items()], SHOWN, "; ")
    return Finding(
        "facts", f"In {runs} a loss is not finite, or all updates of a round were left out ({named}).", False
    )


def _data(config: Mapping[str, Any]) -> str:
    return canonical(config.get("data"))


def _column(scale: FeatureScale) -> str:
    return (
        f"column {scale.where} (of {scale.columns}, from 0) has root mean square {short(scale.largest)} (the median "
        f"column {short(scale.typical)}, a standardised one 1)"
    )


def _rates(one: Reference) -> str:
    rates: list[Any] = [(run.config.get("training") or {}).get("lr") for run in one.runs]
    return " and ".join(labels.number(rate) for rate in dict.fromkeys(rates))
