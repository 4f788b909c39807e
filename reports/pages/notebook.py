"""The table under a notebook's cell: accuracy of every algorithm under every condition, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, StrictUndefined

from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.study import Condition, Study, study
from autoflip_secure.reports.wording import phrases

ROWS = 30
_TABLE = """\
<table>
<caption>{{ name }}: {{ measured }} (%), {{ outcome }}; mean over seeds [95 % interval]</caption>
<thead><tr><th>setting</th><th>attack</th>
{%- for algorithm in algorithms %}<th>{{ algorithm }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for setting, attack, values in rows %}
<tr><td>{{ setting }}</td><td>{{ attack }}</td>{% for value in values %}<td>{{ value }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody>
</table>
{%- if more %}<p>… and {{ more }} more; .frame() has all conditions.</p>{% endif %}
{%- if missing %}<p>{{ missing }} cell{{ " is" if missing == 1 else "s are" }} missing.</p>{% endif %}
"""


def summary(
    records: Sequence[RunRecord], name: str, outcome: OutcomeRule = DEFAULT, missing: int = 0
) -> str:  # fmt: skip
    """A table in HTML that needs nothing of its page, texts escaped; ``missing``: cells without a usable record."""
    found = study(records, outcome)
    shown = found.conditions[:ROWS]
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(_TABLE)
        .render(
            name=labels.clean_text(name),
            outcome=outcome.words,
            measured=found.measured,
            algorithms=found.algorithms,
            rows=[(c.facet, c.attack, [_accuracy(found, c, a) for a in found.algorithms]) for c in shown],
            more=len(found.conditions) - len(shown),
            missing=missing,
        )
    )


def _accuracy(found: Study, condition: Condition, algorithm: str) -> str:
    """``95.3 [94.1, 96.5]``; nothing where the algorithm was not run."""
    values = [*found.values(condition, algorithm).values()]
    if not values:
        return ""
    interval = mean_interval(values, share=True)
    mean = f"{100 * interval.mean:.1f}"
    return f"{mean} (one seed)" if interval.low is None and len(values) == 1 else f"{mean} {phrases.bracket(interval)}"
