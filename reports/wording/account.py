"""The ledger of a federation's log in words: a table for the terminal, and what may be said about it, on a page."""

from __future__ import annotations

from autoflip_secure.records.account import FederationAccount
from autoflip_secure.records.privacy import Guarantee
from autoflip_secure.records.proven import bound, pays_most, silent, who
from autoflip_secure.records.rounding import lower_text, upper_delta, upper_text
from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.reports.wording.statement import (
    ALWAYS_OPEN,
    Said,
    Statement,
    may_say,
    open_for,
    secret_condition,
)
from autoflip_secure.terminal.counting import count_of, listed

_NAMES_SHOWN = 60  # characters
SILENT = "nothing released"


def sentences(account: FederationAccount) -> list[str]:
    """What was read, one line for each observer, and what was not counted in favour of the federation."""
    rows = [("seen by", "epsilon", "delta", "neighbours"), *(_cells(account, g) for g in account.privacy.guarantees)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = ["  " + "  ".join(text.ljust(width) for text, width in zip(r, widths, strict=True)).rstrip() for r in rows]
    whys = [f"  {who(g.observer)}: {_why(account, g)}" for g in account.privacy.guarantees]
    return [f"{clean_text(account.name)}: {facts(account)}", *table, *whys, *(f"  note: {r}" for r in account.remarks)]


def facts(account: FederationAccount) -> str:
    """What was counted, in one line."""
    return (
        f"{count_of(account.rounds, 'round')}, {count_of(account.participations, 'participation')} of "
        f"{count_of(account.clients, 'client')}; one {account.unit} is protected; {account.sampling}"
    )


def _cells(account: FederationAccount, guarantee: Guarantee) -> tuple[str, str, str, str]:
    found = bound(guarantee)
    if found is None:
        return who(guarantee.observer), SILENT if silent(guarantee) else "no guarantee", "", ""
    return (
        who(guarantee.observer),
        f"<= {upper_text(found.epsilon)}",
        upper_delta(found.delta),
        found.relation,
    )


def _none(guarantee: Guarantee) -> str:
    """Why there is no bound."""
    if silent(guarantee):
        return "no client sent anything in these rounds"
    return "no bound is finite" if guarantee.proven else clean_text(guarantee.reason)


def _why(account: FederationAccount, guarantee: Guarantee) -> str:
    found = bound(guarantee)
    if found is None:
        return _none(guarantee)
    most = pays_most(guarantee, lambda client: client_name(account, client))
    pays = f"; {most}" if most else ""
    secret = f"; as long as {secret_condition(guarantee)}" if found.secret else ""
    return f"rests on {clean_text(guarantee.reason)}{secret}{pays}"


def client_name(account: FederationAccount, client: int) -> str:
    """As the log names it."""
    text = clean_text(account.names[client])
    return text if len(text) <= _NAMES_SHOWN else text[: _NAMES_SHOWN - 1] + "…"


def statement(account: FederationAccount) -> Statement:
    """The page that is signed."""
    said = [_said(account, guarantee) for guarantee in account.privacy.guarantees]
    proven = [one for one in said if one.delta]
    title = (
        f"{clean_text(account.name)}: what may be said about the privacy of one {account.unit}"
        if proven
        else f"{clean_text(account.name)}: nothing is proven about the privacy of one {account.unit}"
    )
    lead = "No bound is proven against anybody."
    if proven:
        lead = f"A bound is proven against {listed([one.observer for one in proven])}."
    bare = [one.observer for one in said if not one.epsilon]
    if all(map(silent, account.privacy.guarantees)):
        title = f"{clean_text(account.name)}: nothing was released about one {account.unit}"
        lead = "No client sent anything in the rounds of the log."
    elif proven and bare:
        lead += f" There is no guarantee against {listed(bare)}."
    return Statement(
        title=title,
        lead=lead,
        said=said,
        rests=_rests(account),
        not_covered=[
            *open_for(account.unit, [g.relation for g in account.privacy.guarantees if g.proven]),
            *ALWAYS_OPEN,
        ],
        basis=_basis(account),
        remarks=account.remarks,
    )


def _said(account: FederationAccount, guarantee: Guarantee) -> Said:
    found = bound(guarantee)
    if found is None:
        if silent(guarantee):
            return Said(who(guarantee.observer), f"{_none(guarantee).capitalize()}.", "the clients", SILENT)
        return Said(who(guarantee.observer), f"Nothing may be promised: no guarantee ({_none(guarantee)}).", "nobody")
    to = "the clients; anybody who is given a model" if guarantee.observer == "public" else "the clients"
    condition = secret_condition(guarantee)
    return Said(
        observer=who(guarantee.observer),
        words=may_say(found, account.unit),
        to=to,
        epsilon=f"≤ {upper_text(found.epsilon)}",
        delta=upper_delta(found.delta),
        relation=found.relation,
        condition=f"{condition[0].upper()}{condition[1:]}." if condition else "",
    )


def _rests(account: FederationAccount) -> list[tuple[str, str]]:
    """(condition, who answers for it)."""
    operator = "operator of the federation"
    clients = "whoever supplies the clients' software"
    found = [
        ("The log is true and complete: it has every round, and nothing else was released on these data", operator),
        ("Number of rounds, clip norms, noise and sampling were fixed in advance, or follow from no client's data and "
         "no result", operator),
    ]  # fmt: skip
    if account.unit == "sample":
        found += [
            ("Each sample's gradient was clipped to the clip norm and depends on no other sample (no BatchNorm); every "
             "step got Gaussian noise of the stated size", clients),
            (f"Batches were drawn as stated ({account.sampling}), and nobody but the client knows them", clients),
        ]  # fmt: skip
    elif account.noise == "central":
        found.append(
            ("The server is trusted: it sees every update, clips it with its weight to the clip norm, adds Gaussian "
             "noise of the stated size to the sum, and publishes that alone", "operator of the server")
        )  # fmt: skip
    else:
        found.append(
            ("Each participant clipped its update, with its weight, to the clip norm and added Gaussian noise of the "
             "stated size; sums that lack a row were not published", clients)
        )  # fmt: skip
    if account.secure_sum:
        found.append(
            ("The server learns the sum of a round and no row; the parties pool no shares", "operators of the parties")
        )
    if account.secret_from:
        found.append(
            (f"Participants were drawn as stated ({account.sampling}); {listed(account.secret_from)} never learn who "
             "took part in which round, so this log, the draws and records of connections stay secret", operator)
        )  # fmt: skip
    if any(release.sampling == "fixed" for one in account.privacy.guarantees for release in one.releases):
        found.append(
            ("What a client sends does not depend on the rounds that it was in before: it keeps nothing from one round "
             "to the next but what everybody is sent", clients)
        )  # fmt: skip
    gang = f"Beyond {count_of(account.colluding, 'client')} that may, no" if account.colluding else "No"
    found.append((f"{gang} client tells others its noise, or in which rounds it takes part", operator))
    found.append(("Noise and draws come from a generator that no observer can predict", "operator and suppliers"))
    return found


def _basis(account: FederationAccount) -> list[tuple[str, str]]:
    clips = account.clips
    low, high = account.noise_multipliers
    noise = lower_text(low, 4) if low == high else f"{lower_text(low, 4)} to {upper_text(high, 4)}"
    who_noises = {
        "central": "server, on the sum",
        "distributed": "each participant, on its row",
        None: "each client, in every step",
    }
    norm = "" if clips is None else f"{clips[0]:g}" if clips[0] == clips[1] else f"{clips[0]:g} to {clips[1]:g}"
    return [
        ("Counted", facts(account)),
        ("Clip norm", norm or "none"),
        ("Noise / clip norm", f"{noise}, drawn by {who_noises[account.noise]}"),
        *((f"SHA-256 of {clean_text(name)}", digest) for name, digest in account.files.items()),
        ("Counted with", ", ".join(f"{name} {version}" for name, version in sorted(account.versions.items()))),
    ]
