"""What of a scenario its attacks do not go with: nobody is malicious, they never act, or could not know what they use.

Attacks run on the clients' side, so what an attacker can know follows from what leaves the clients:

| knowledge | secure sums of updates | exploration through parties | client level, noise on clients | own masks |
|---|---|---|---|---|
| own, colluders | yes | yes | yes | yes |
| rows | refused | not in the exploration | refused | yes, on the coordinates that each holds |
| defence | refused | not in the exploration | refused, with central noise too | refused |

At client level with noise of the server ``rows`` can be, and takes every guarantee away: the ledger says so.
An ``UpdateAttack`` from outside that does not say what it knows is shown every row as trained, whoever could see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from autoflip_secure.interfaces import Attack, BackdoorAttack, ParticipationAttack, SampleAttack
from autoflip_secure.scenarios.config.messages import kind_of

if TYPE_CHECKING:
    from autoflip_secure.scenarios.config.fields import Fields

Obstacle = tuple[str, str, str]  # key, sentence about its value, the other key


def obstacle(settings: Fields) -> Obstacle | None:
    """What is in the way of an attack of the scenario; None: nothing is."""
    parts = settings.attack.parts
    for number, attack in enumerate(parts):
        place = "attack" if len(parts) == 1 else f"attack.{number}"
        found = next((one for check in _CHECKS for one in check(settings, attack, place)), None)
        if found is not None:
            return found
    return None


def _clients(settings: Fields, attack: Attack, place: str) -> Iterator[Obstacle]:
    """An attack by nobody would pass for a defence."""
    unknown = [client for client in attack.clients or () if client >= settings.clients]
    if unknown:
        yield f"{place}.clients", f"{unknown}: no such client; ids are 0 to {settings.clients - 1}", "clients"
    if attack.clients == ():
        yield f"{place}.clients", "[]: is empty; give ids, leave it out for scope, or set attack: none", ""
    if attack.clients is None and attack.scope > 0 and round(attack.scope * settings.clients) == 0:
        yield (
            f"{place}.scope",
            f"{attack.scope:g}: of {settings.clients} clients that is none; give at least {1 / settings.clients:.4g}, "
            "0 for nobody, or more clients",
            "clients",
        )


def _window(settings: Fields, attack: Attack, place: str) -> Iterator[Obstacle]:
    window = attack.window
    if window.first > settings.rounds:
        yield (
            f"{place}.window.first",
            f"{window.first}: the attack begins after the last round, {settings.rounds}; start it earlier",
            "rounds",
        )
    exploring = "exploration" in attack.threat_card.means or not attack.declared
    if window.last == 0 and not attack.explorers:
        yield f"{place}.explorers", "false: with window.last = 0 it would never act; set explorers: true", "rounds"
    if {*attack.threat_card.means} == {"exploration"} and not attack.explorers:
        yield (
            f"{place}.explorers",
            f"false: {kind_of(type(attack))} changes the exploration alone, so it would never act; set explorers: true",
            "rounds",
        )
    if window.last == 0 and not exploring and {"update", "buffers"} & {*attack.threat_card.means}:
        yield (
            f"{place}.window.last",
            f"0: {kind_of(type(attack))} does not act in the exploration; give a later round, or null",
            "rounds",
        )


def _knowledge(settings: Fields, attack: Attack, place: str) -> Iterator[Obstacle]:
    knows, privacy, secure = attack.threat_card.knowledge, settings.privacy, settings.secure_sum
    if not attack.declared or knows not in ("rows", "defence"):
        return
    kind = f"{kind_of(type(attack))}: knows {'every update' if knows == 'rows' else 'every update and the defence'}"
    others = "take one that knows its own update or its colluders' (docs/attacks.md)"
    if secure is not None and secure.updates:
        yield place, f"{kind}, and updates leave the clients in shares; {others}, or set secure_sum: none", "secure_sum"
    if secure is not None and attack.explorers and "exploration" in attack.threat_card.means:
        yield (
            f"{place}.explorers",
            f"true: {kind}, and what explorers send leaves them in shares; set explorers: false, or secure_sum: none",
            "secure_sum",
        )
    if privacy.works_on_updates and (knows == "defence" or not privacy.trusted_server):
        yield (
            place,
            f"{kind}, and at client level nobody sees them without noise; {others}, or set privacy: none",
            "privacy",
        )
    if knows == "defence" and settings.algorithm.pruner.several_masks:
        yield (
            place,
            f"{kind}, and {settings.algorithm.name} keeps a mask per client, of which the decision depends; {others}, "
            "or choose an algorithm with one mask",
            "algorithm",
        )


_AT_CLIENT_LEVEL: dict[type[Attack], str] = {
    SampleAttack: "numbers of samples stay with the clients, and all count alike",
    ParticipationAttack: "the guarantee rests on who is drawn, and is proven for an even draw",
}


def _client_level(settings: Fields, attack: Attack, place: str) -> Iterator[Obstacle]:
    for family, why in _AT_CLIENT_LEVEL.items() if settings.privacy.works_on_updates else ():
        if isinstance(attack, family):
            way_out = "set privacy: none, or choose another attack"
            yield place, f"{kind_of(type(attack))}: at client level {why}; {way_out}", "privacy"


def _backdoors(settings: Fields, attack: Attack, place: str) -> Iterator[Obstacle]:
    """A run has one trigger, whose success is that of the global model."""
    if not isinstance(attack, BackdoorAttack):
        return
    kind = kind_of(type(attack))
    if next(one for one in settings.attack.parts if isinstance(one, BackdoorAttack)) is not attack:
        yield (
            place,
            f"{kind}: is a second backdoor, and attack success is measured of one; cut one trigger into trigger_parts, "
            "or run them apart",
            "",
        )
    if settings.evaluation == "personal":
        yield (
            place,
            f"{kind}: attack success is measured of the global model, and evaluation: personal tests the clients' own; "
            "set evaluation: global",
            "evaluation",
        )


_CHECKS = (_clients, _window, _knowledge, _client_level, _backdoors)
