"""What the report and the comparison share: the templates' environment, the style sheet, the script.

A page is one file that needs nothing else. Everything that came from a record or a scenario is text to the templates
(autoescape, undefined names are errors); figures alone are markup, and their labels are escaped by the SVG writer.
"""

from __future__ import annotations

import json
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autoflip_secure.files.regular_files import parse_json
from autoflip_secure.reports.figures.style import again
from autoflip_secure.reports.statistics.intervals import MARGIN
from autoflip_secure.reports.study.labels import capital, percent
from autoflip_secure.reports.study.threat_cards import LETTERS
from autoflip_secure.reports.tables.text import as_csv, p_value, value
from autoflip_secure.reports.tables.threat_cards import beside, named
from autoflip_secure.reports.wording import phrases
from autoflip_secure.reports.wording.sentences import first_sentence, later_sentences

ROWS_SHOWN = 600  # rows of one figure's table on the page; more would make it slow, and the CSV has them all


def page(template: str, **texts: Any) -> str:
    """Render ``template`` of ``reports/templates`` with the report's filters, style and script."""
    environment = Environment(
        loader=PackageLoader("autoflip_secure.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": value,
        "percent": percent,
        "capital": capital,
        "points": phrases.points,
        "short_verdict": phrases.short_verdict,
        "p_value": p_value,
        "as_csv": as_csv,
        "first_sentence": first_sentence,
        "later_sentences": later_sentences,
        "again": again,
        "cards_named": lambda table, cards: named(cards, table),
        "with_cards": lambda table, cards: beside(cards, table),
    }
    environment.globals |= {
        "bracket": phrases.bracket,
        "hollow": phrases.HOLLOW,
        "rows_shown": ROWS_SHOWN,
        "margin": 100 * MARGIN,
        "threat_cards": None,  # of pages without attacks
        "letters": LETTERS,
    }
    loader = environment.loader
    assert loader is not None
    style, script = (loader.get_source(environment, name)[0] for name in ("report.css", "report.js"))
    return environment.get_template(template).render(style=Markup(style), script=Markup(script), **texts)


def as_yaml(document: Any) -> str:
    """A configuration as a reader writes it; what cannot be seen, or turns a line around, is written as an escape."""
    plain = parse_json(json.dumps(document, default=str))
    text = str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))
    return "".join(c if c == "\n" or c.isprintable() else f"\\u{ord(c):04x}" for c in text)
