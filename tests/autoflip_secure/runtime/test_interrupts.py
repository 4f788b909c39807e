"""A signal ends the program with its own exit code, whatever the code that it struck makes of it."""

import signal
from typing import Any

import pytest
import typer
from pydantic import BaseModel, model_serializer

from autoflip_secure.commands.session import exit_codes
from autoflip_secure.runtime.interrupts import Interrupted, interruptible


class Struck(BaseModel):
    """A record on whose serialiser a signal falls; pydantic makes an error of its own of that."""

    number: int

    @model_serializer
    def write(self) -> dict[str, Any]:
        signal.raise_signal(self.number)
        return {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_inside_a_serialiser_is_a_signal(number: int, code: int) -> None:
    with pytest.raises(typer.Exit) as caught, exit_codes(None):
        Struck(number=number).model_dump_json()
    assert caught.value.exit_code == code


def test_a_signal_of_which_a_library_makes_ctrl_c_keeps_its_code() -> None:
    """As Ray does, whose waiting hears of signals in its own way."""

    def wait() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    with pytest.raises(typer.Exit) as caught, exit_codes(None):
        wait()
    assert caught.value.exit_code == 143


def test_a_second_ctrl_c_is_heard_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as raised:
        for _ in range(2):
            with pytest.raises(Interrupted):
                signal.raise_signal(signal.SIGINT)
    assert [one.number for one in raised] == [signal.SIGINT] * 2
    assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler


def test_somebody_elses_handler_of_ctrl_c_stays() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with interruptible() as raised:
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
    assert not raised
