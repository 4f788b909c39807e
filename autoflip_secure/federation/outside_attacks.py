"""What an attack from outside answers in the middle of a run: held to its contract, or the run ends with its name.

See :mod:`.outside_answers`. What malicious clients send may be anything, NaN included; it has to be rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.federation.outside_answers import blamed, like_expected
from autoflip_secure.interfaces import (
    Attack,
    AttackView,
    Channel,
    DataAttack,
    InputAttack,
    InputView,
    ParticipationAttack,
    RowAttack,
    SampleAttack,
)
from autoflip_secure.interfaces.base import called

MOST_SAMPLES = 2**31  # that a client may state


def lies_of(attack: RowAttack, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
    """What it makes of the rows that it sees, and its memory.

    Raises:
        InputError: it is from outside, and fails, or gives no such rows.
    """
    if not attack.foreign:
        return attack.act(view)
    own = replace(view, updates=view.updates.clone())  # what it changes in place stays with it
    with blamed(attack, f"attack.kind = {called(attack)!r}: act", view.round):
        answer: object = attack.act(own)
    place = _place(attack, "act", view.round)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise InputError(f"{place} gives a {type(answer).__name__}, expected (rows, memory)")
    return like_expected(answer[0], view.updates, place), answer[1]


def lies_beside(
    attack: RowAttack, channel: Channel, rows: Float[Tensor, "clients size"], malicious: Bool[Tensor, " clients"],
    generators: Sequence[torch.Generator], round_: int,
) -> Float[Tensor, "clients size"]:  # fmt: skip
    """What it makes of rows of another channel.

    Raises:
        InputError: as :func:`lies_of`.
    """
    if not attack.foreign:
        return attack.channel(channel, rows, malicious, generators)
    return _answer(
        attack, "channel", lambda: attack.channel(channel, rows.clone(), malicious, generators), rows, round_
    )


def labels_of(
    attack: DataAttack, asked: Callable[[], Int[Tensor, " n"]], labels: Int[Tensor, " n"], num_classes: int, round_: int
) -> Int[Tensor, " n"]:
    """The labels that ``asked`` of it gives for ``labels``.

    Raises:
        InputError: it is from outside, and fails, or gives no labels of the data.
    """
    if not attack.foreign:
        return asked()
    found = _answer(attack, "labels", asked, labels, round_)
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < num_classes:
        raise InputError(
            f"{_place(attack, 'labels', round_)} gives classes from {int(found.min())} to {int(found.max())}; the data "
            f"has 0 to {num_classes - 1}"
        )
    return found


def inputs_of(attack: InputAttack, view: InputView, round_: int) -> Shaped[Tensor, "n ..."]:
    """The inputs that it makes of a client's.

    Raises:
        InputError: as :func:`lies_of`.
    """
    return (
        attack.inputs(view)
        if not attack.foreign
        else _answer(attack, "inputs", lambda: attack.inputs(view), view.inputs, round_)
    )


def samples_of(attack: SampleAttack, true: Float[Tensor, " malicious"], round_: int) -> Float[Tensor, " malicious"]:
    """What malicious clients state.

    Raises:
        InputError: it is from outside, and fails, or gives what nobody can state.
    """
    if not attack.foreign:
        return attack.samples(true)
    found = _answer(attack, "samples", lambda: attack.samples(true), true, round_)
    if is_stated(found):
        return found
    raise InputError(
        f"{_place(attack, 'samples', round_)} states {found.tolist()} for {true.tolist()}; state "
        "whole numbers from 1 to 2^31"
    )


def places_of(
    attack: ParticipationAttack, true: Float[Tensor, " malicious"], round_: int
) -> Float[Tensor, " malicious"]:
    """Where malicious clients stand in the queue.

    Raises:
        InputError: it is from outside, and fails, or gives no places.
    """
    if not attack.foreign:
        return attack.places(true)
    found = _answer(attack, "places", lambda: attack.places(true), true, round_)
    if bool((found >= 0).all()):
        return found
    raise InputError(
        f"{_place(attack, 'places', round_)} gives {found.tolist()} for {true.tolist()}; give numbers from 0"
    )


def is_stated(samples: Float[Tensor, " clients"]) -> bool:
    """Whether clients may state these numbers of samples."""
    return bool(((samples >= 1) & (samples <= MOST_SAMPLES) & (samples == samples.round())).all())


def _answer(
    attack: Attack, what: str, asked: Callable[[], Tensor], like: Tensor,
    round_: int,
) -> Tensor:  # fmt: skip
    with blamed(attack, f"attack.kind = {called(attack)!r}: {what}", round_):
        found: object = asked()
    return like_expected(found, like, _place(attack, what, round_))


def _place(attack: Attack, what: str, round_: int) -> str:
    return f"attack.kind = {called(attack)!r}: in round {round_} {what}"
