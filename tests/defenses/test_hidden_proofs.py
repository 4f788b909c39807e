"""Proofs on shares before real parties: liars are found, and parties refuse what would tell more than one sum."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hidden_statements import SENT, passing, residue, vector_of, words
from torch import Tensor

from autoflip_secure.errors import SecureSumError
from defenses import hidden_rows
from defenses.crew import Parties
from defenses.hidden_rows import HiddenRows
from defenses.prime_field import P, fold, split_elements
from defenses.secure_aggregation import Session
from defenses.statements import Passes


def shared(session: Session, statement: Passes, rows: list[Tensor], counts: list[int]) -> HiddenRows:
    both = torch.stack([torch.cat([row, words([b])]) for row, b in zip(rows, counts, strict=True)])
    return HiddenRows.share(session, both, tuple(range(len(rows))))


def proved(session: Session, statement: Passes, rows: list[Tensor], counts: list[int]) -> tuple[HiddenRows, Any]:
    hidden = shared(session, statement, rows, counts)
    return hidden, hidden.prove(statement, lambda row: statement.witness(row[:-1], int(row[-1])))


@pytest.mark.parametrize("seed", range(10, 13))
def test_parties_find_the_liar_and_reveal_the_sum_of_the_others(two_parties: Parties, seed: int) -> None:
    statement, row = passing(seed)
    zero = torch.zeros_like(row)
    with Session(two_parties) as session:
        hidden, failed = proved(session, statement, [row, -row, zero, row // 2, row], [1, 1, 0, 1, 0])
        assert failed == (1, 4)
        assert hidden.clients == (0, 2, 3)
        assert hidden.count() == 2
        assert torch.equal(hidden.total(words([5, 7, 3]))[:-1], 5 * row + 3 * (row // 2))
        hidden.forget()


def test_three_parties_agree(three_parties: Parties) -> None:
    statement, row = passing(10)
    with Session(three_parties) as session:
        hidden, failed = proved(session, statement, [row, row, -row], [1, 1, 1])
        assert failed == (2,)
        assert hidden.count() == 2
        assert torch.equal(hidden.total(words([1, 1]))[:-1], 2 * row)


def test_who_knew_the_challenges_could_lie(two_parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doubt: a client that knows e puts its lie right with c_0; drawn afterwards, it does not help."""
    statement, row = passing(10)
    e, send = 12345, HiddenRows._send

    def adapted(self: HiddenRows, op: str, client: int, content: Tensor, **more: Any) -> None:
        if op == "ends" and client == 1:
            lie = residue(statement, vector_of(statement, -row, 1), seed=e)
            content = fold(content + words([lie * e % P * e % P, 0]))
        send(self, op, client, content, **more)

    monkeypatch.setattr(HiddenRows, "_send", adapted)
    for known, found in ((True, ()), (False, (1,))):
        draws = iter([e, e if known else 54321])
        monkeypatch.setattr(hidden_rows, "draw", lambda: next(draws))  # noqa: B023
        with Session(two_parties) as session:
            assert proved(session, statement, [row, -row, row], [1, 1, 1])[1] == found


def refused(where: Parties, message: str, act: Any) -> None:
    statement, row = passing(10)
    with Session(where) as session, pytest.raises(SecureSumError, match=message):
        act(session, statement, [row, row, torch.zeros_like(row)])


def test_parties_refuse_what_would_tell_more(two_parties: Parties) -> None:
    def unproved(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        shared(session, statement, rows, [1, 1, 0]).total(words([1, 1, 1]))

    def one_counts(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows[1:], [1, 0])
        assert hidden.count() == 1
        hidden.total(words([1, 1]))

    def uncounted(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        proved(session, statement, rows, [1, 1, 0])[0].total(words([1, 1, 1]))

    def others(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, [*rows, rows[0]], [1, 1, 0, 1])
        hidden.count()
        replace(hidden, clients=(0, 1)).total(words([1, 1]))

    def twice(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows, [1, 1, 0])
        hidden.count()
        hidden.total(words([1, 1, 1]))
        hidden.total(words([1, 2, 1]))

    def weighted_out(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows, [1, 1, 0])
        hidden.count()
        hidden.total(words([1, 0, 1]))

    def count_twice(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows, [1, 1, 0])
        hidden.count()
        replace(hidden, clients=(0, 1)).count()

    def check_twice(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows, [1, 1, 0])
        session._tell({"op": "check", "batch": hidden.batch, "clients": [0], "seed": 1, "e": 2})
        hidden._answer()

    def product(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden = shared(session, statement, rows, [1, 1, 0])
        vector = torch.ones(SENT + 1, dtype=torch.int64)
        header = {"op": "products", "batch": hidden.batch, "vectors": 1, "dtype": "<i8"}
        session._tell(header, hidden_rows.raw(vector))
        hidden._answer()

    refused(two_parties, "refuses to sum 3 hidden rows, 3 of them without a proof", unproved)
    refused(two_parties, "in which fewer than 2 clients count", one_counts)
    refused(two_parties, "in which fewer than 2 clients count", uncounted)
    refused(two_parties, "other hidden rows than those that were counted", others)
    refused(two_parties, "that is not the first", twice)
    refused(two_parties, "refuses to tell hidden rows apart by their weights", weighted_out)
    refused(two_parties, "refuses to count hidden rows twice", count_twice)
    refused(two_parties, r"proofs of clients \[0\], and does not hold all of them", check_twice)
    refused(two_parties, "refuses products with hidden rows", product)


class Careless(HiddenRows):
    """Client 0 means another statement, client 1 sends too little to one party, client 2 ends its proof twice."""

    def _send(self, op: str, client: int, content: Tensor, **more: Any) -> None:
        if (op, client) == ("witness", 0):
            more["digest"] = "what the server showed client 0"
        if (op, client) != ("witness", 1):
            super()._send(op, client, content, **more)
        else:
            header = {"op": op, "batch": self.batch, "client": client, **more}
            shares = split_elements(content, 2)
            self.session._from_client(header, [shares[0], shares[1][:-1]])
        if (op, client) == ("ends", 2):
            super()._send(op, client, content, **more)


def test_incomplete_proofs_leave_their_clients_out_and_are_named(two_parties: Parties) -> None:
    statement, row = passing(10)
    with Session(two_parties) as session:
        hidden = Careless(**vars(shared(session, statement, [row] * 4, [1] * 4)))
        assert hidden.prove(statement, lambda own: statement.witness(own[:-1], int(own[-1]))) == (0, 1)
        assert hidden.events == (
            "party 0: client 0 proves another statement: not taken",
            "party 0: client 0 ended a proof wrongly, twice or unasked: not taken",
            "party 0: client 2 ended a proof wrongly, twice or unasked: not taken",
            "party 1: client 0 proves another statement: not taken",
            "party 1: client 1 sent a witness of wrong length, twice or unasked: not taken",
            "party 1: client 0 ended a proof wrongly, twice or unasked: not taken",
            "party 1: client 1 ended a proof wrongly, twice or unasked: not taken",
            "party 1: client 2 ended a proof wrongly, twice or unasked: not taken",
        )
        assert hidden.count() == 2
        assert torch.equal(hidden.total(words([1, 2]))[:-1], 3 * row)
