"""Whatever a scenario says, it is understood or refused in words: no traceback, no exit code 3, nothing endless."""

import collections
import contextlib
import time
from pathlib import Path

import pytest
import typer
from bad_scenarios import Case, cases
from sizes import sized

from autoflip_secure.commands.session import exit_codes
from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve, to_yaml
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.checks import check

COUNT = sized(200, 10_000)
CHECKED = 8  # one of so many that are understood is also tried on its data and models
LONG = 20.0  # seconds of processor time that no case may take


def understood(case: Case) -> Plan | None:
    """The plan of a case, None where it is refused."""
    try:
        work = plan(resolve(Document.parse(case.text, "bad.yaml"), case.overrides))
        again = plan(resolve(Document.parse(to_yaml(work.written), "again.yaml")))
        assert again.keys == work.keys
        quick = work.cells[0].settings.rounds <= 1000  # the ledger of a hundred thousand releases takes half a minute
        if case.number % CHECKED == 0 and quick:
            check(work.blocks[:1])
    except InputError as error:
        said = str(error)
        assert said.strip()
        assert said.replace("\n", "").isprintable(), said
        assert len(said) < 6000, said
        return None
    return work


def test_bad_scenarios_are_refused_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOFLIP_DATA", str(tmp_path))
    seen: collections.Counter[bool] = collections.Counter()
    for case in cases(0, COUNT):
        began = time.process_time()
        try:
            seen[understood(case) is not None] += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{case}") from error
        assert time.process_time() - began < LONG, case
    assert min(seen.values()) > COUNT / 20, "the generator has become too wild, or too tame"


@pytest.mark.parametrize("case", list(cases(0, 6)), ids=lambda case: str(case.number))
def test_a_refusal_is_exit_code_2(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    refused = understood(case) is None
    with pytest.raises(typer.Exit) if refused else contextlib.nullcontext() as caught, exit_codes(None):
        resolve(Document.parse(case.text, "bad.yaml"), case.overrides)
    told = capsys.readouterr().err
    assert told.startswith("error: ") if refused else not told
    assert caught is None or caught.value.exit_code == 2


def test_a_number_is_a_case() -> None:
    assert list(cases(7, 3)) == list(cases(0, 10))[7:]
    assert len({(case.text, case.overrides) for case in cases(0, 200)}) > 150
