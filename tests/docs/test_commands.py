"""Every command that the documentation names exists, with its options and arguments; quick, nothing is run."""

import re

import documented
import page_tables
import pytest

PAGES = documented.pages()
COMMANDS = [command for page in PAGES for command in documented.commands(page)]
UNFINISHED = re.compile("Missing (parameter|argument|option)|requires an? argument", re.IGNORECASE)


def check(command: documented.Command) -> None:
    """A span in a sentence may leave out arguments: it names a command, or an option of one, or is about all."""
    if command.inline and command.words[1] == "COMMAND":
        return
    try:
        documented.check_call(command.words)
    except AssertionError as error:
        if not (command.inline and UNFINISHED.search(str(error))):
            raise AssertionError(f"{command.page}:{command.line}: {error}") from error


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_exists(page: str) -> None:
    for command in documented.commands(page):
        check(command)


def test_commands_are_found() -> None:
    """In blocks with and without a language, in lists, in sentences, over several lines."""
    assert len(COMMANDS) > 80
    texts = {command.text for command in COMMANDS}
    assert {"make demo", "autoflip-secure list attacks label_flip", "autoflip-secure schema"} <= texts
    assert any("target_epsilon: 8}], algorithm" in text for text in texts), "a quotation that goes on in the next line"
    assert any(command.page == "docs/gate.md" and not command.inline for command in COMMANDS), "blocks in a list"
    assert "scenario.schema.json" in {command.into for command in COMMANDS if command.words[1:] == ("schema",)}


@pytest.mark.parametrize(
    "line",
    [
        "autoflip-secure swep x.yaml",
        "autoflip-secure --instal-completion",
        "autoflip-secure sweep",
        "autoflip-secure sweep x.yaml --owt runs",
        "autoflip-secure gate runs/x --baselin b.json",
        "autoflip-secure gate runs/x",
        "autoflip-secure list attacks label_flip more",
        "make tset",
        "make test PYTHN=python",
    ],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    [(words, _, _)] = documented.calls(f"echo so && {line}")
    with pytest.raises(AssertionError):
        check(documented.Command("page", 1, words))


def test_what_make_does_is_listed_as_not_run() -> None:
    """Pages are followed without it."""
    left = {command.text for command in COMMANDS if command.words[0] == "make" and not command.is_form}
    assert not {text for text in left if not page_tables.excepted("README.md", text)}, f"add to {documented.NOT_RUN}"


def test_every_line_of_the_table_is_about_something() -> None:
    """What no test runs is still on a page: an old line would hide a new command of the same form."""
    firsts = [(block.page, block.first) for page in PAGES for block in documented.blocks(page)]
    known = [(command.page, command.text) for command in COMMANDS] + firsts
    table = page_tables.exceptions()
    assert len(table) > 10
    for one in table:
        assert one.why.strip()
        if one.page not in PAGES and one.page != "*":
            pytest.fail(f"{documented.NOT_RUN}: there is no page {one.page}")
        assert any(page_tables.meant(one, page, what) for page, what in known), (
            f"{documented.NOT_RUN}: {one.what} is nowhere"
        )
