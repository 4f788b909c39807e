"""Tuning in words: what was chosen how, or that nothing was."""

from __future__ import annotations

from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.tuned import Choice, choices, untuned
from autoflip_secure.terminal.counting import count_of, listed

NOT_TUNED = (
    "Nothing was tuned: every algorithm was run with the settings of the scenario, which may favour one of them."
)
_NAMED = 4  # choices at an edge


def caveats(study: Study) -> list[str]:
    """How settings were chosen, and what that leaves open; of one algorithm alone there is nothing to say."""
    made = choices(study)
    if not made:
        return [NOT_TUNED] if len(study.algorithms) > 1 else []
    told = [how(made, study)]
    if beside := untuned(study):
        told.append(f"Not tuned in every run: {listed(beside)}; those ran with the settings of the scenario.")
    return told + edges(made)


def how(made: list[Choice], study: Study) -> str:
    """What was chosen by what, on which seeds, with which budget."""
    record = made[0].record
    seeds = f"{'seed' if len(record.seeds) == 1 else 'seeds'} {listed([*map(str, record.seeds)])}"
    tried = count_of(record.budget, "combination" if len(record.chosen) > 1 else "value")
    drawn = f" (drawn at random from {record.combinations:,})" if record.budget < record.combinations else ""
    what = listed([*map(clean_text, record.chosen)])
    personal = all(record.personal is not None for record in study.records)
    again = "the data that rows for tests are drawn from" if personal else "test samples that all seeds share"
    return (
        f"Tuned: {what} of every algorithm is the best of the same {tried}{drawn}, by mean accuracy without attack on "
        f"{seeds}, which are not reported. It was chosen once in every setting, and kept under every attack. Only the "
        f"seeds are new to the reported runs: {again} were chosen on too."
    )


def edges(made: list[Choice]) -> list[str]:
    """Choices at an end of what was tried."""
    found = [f"{one.algorithm} in {one.facet} ({one.edges})" for one in made if one.edges]
    if not found:
        return []
    more = f"; and {len(found) - _NAMED} more, in the table of the tuning" if len(found) > _NAMED else ""
    return [f"At an end of what was tried, so the best value may lie beyond: {'; '.join(found[:_NAMED])}{more}."]
