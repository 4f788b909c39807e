"""What aggregators and pre-aggregators need, from what their classes declare: ``list`` and docs/defenses.md show it."""

from __future__ import annotations

from pydantic import ValidationError

from autoflip_secure.federation.visibility import Sight, least
from autoflip_secure.interfaces import Aggregator, Plugin, PreAggregator

_NEEDS: dict[Sight, str] = {
    "rows": "every update",
    "numbers": "a weighted sum of the updates, and a few numbers about each",
    "sums": "a weighted sum of the updates",
}
_MEMORY = {
    "": "",
    "steps": "of the steps so far",
    "clients": "of numbers about each client",
    "rows": "of every client's rows",
}


def capabilities(cls: type[Plugin]) -> dict[str, str]:
    """Heading -> what there is to say of a class with its default options; what does not apply is left out."""
    try:
        return needs_of(cls())
    except ValidationError:  # of another distribution, with options that have to be given
        return {}


def needs_of(plugin: Plugin) -> dict[str, str]:
    """The same of a plug-in with the options that it has."""
    found: dict[str, str] = {}
    if isinstance(plugin, PreAggregator):
        found = {
            "needs": _NEEDS["rows"],
            "assumes": "f, the number of malicious rows" if plugin.assumes_malicious else "",
            "memory": _MEMORY["rows"] if plugin.remembers else "",
            "rows after": "one for each client that was ever seen"
            if plugin.remembers
            else "one for each client"
            if plugin.keeps_clients
            else "fewer than clients",
        }
    elif isinstance(plugin, Aggregator):
        found = {
            "needs": _NEEDS[least(plugin)],
            "assumes": "f, the number of malicious rows" if plugin.assumes_malicious else "",
            "memory": _MEMORY[plugin.remembers],
            "clean data": "the server owns clean samples, and trains on them" if plugin.needs_clean_data else "",
            "weights": "numbers of samples, as clients state them" if plugin.weighs_samples else "",
            "explores": "explorers train first" if plugin.needs_guidance else "",
            "scores": "every client" if plugin.scores_clients else "",
            "own masks": "works with masks of the clients' own" if plugin.own_masks else "",
        }
    return {heading: text for heading, text in found.items() if text}
