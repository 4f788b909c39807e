"""Lines fit terminals; what no terminal shows is left alone, and so is what somebody may want to copy."""

import io

import pytest

from autoflip_secure.commands.session import tell
from autoflip_secure.terminal.notes import remark
from autoflip_secure.terminal.wrapping import fitted, wrapped

SENTENCE = (
    "error: runs/x: the sweep is incomplete: 3 of 12 cells are missing or unusable; finish it with "
    "`autoflip-secure sweep runs/x/scenario.yaml --out runs/x`"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_lines_fit_a_terminal_and_lose_nothing(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = fitted(SENTENCE, Terminal())
    assert " ".join(shown.split()) == SENTENCE
    command = "`autoflip-secure sweep runs/x/scenario.yaml --out runs/x`"
    assert command in shown, "a command can be copied from one line"
    assert [line for line in shown.splitlines() if len(line) > width and line.strip() != command] == []


def test_what_goes_elsewhere_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert fitted(SENTENCE, io.StringIO()) == SENTENCE
    assert fitted(SENTENCE, None) == SENTENCE
    closed = Terminal()
    closed.close()
    monkeypatch.delenv("COLUMNS")
    assert fitted(SENTENCE, closed) == SENTENCE


def test_margins_and_short_lines_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = "  a:  1\n\n    of the second line there is more than fits in forty"
    assert fitted(text, Terminal()).splitlines() == [
        "  a:  1", "", "    of the second line there is more", "      than fits in forty",
    ]  # fmt: skip
    assert wrapped("x" * 90) == ["x" * 90]
    assert wrapped("") == []


def test_notes_and_answers_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out, err = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    remark(SENTENCE)
    tell({}, False, [SENTENCE])
    tell({"a": SENTENCE}, True, [])
    assert max(map(len, err.getvalue().splitlines())) <= 60
    plain, _, answer = out.getvalue().partition("{\n")
    assert len(plain.splitlines()) > 2
    assert SENTENCE in answer
