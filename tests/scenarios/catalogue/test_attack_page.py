"""The page about attacks is what the classes say, and its example runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from autoflip_secure.interfaces import Attack
from autoflip_secure.scenarios.catalogue.attack_page import attack_table, with_table
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.tables import ATTACKS
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.reading import read_record

PAGE = Path(__file__).parents[3] / "docs" / "attacks.md"
SCENARIO = """
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
clients: 6
cohort: 4
rounds: 4
seeds: [3]
training: {epochs: 1}
algorithm: agreement_only
attack: {kind: "page_example:Patience", scope: 0.5, trusted: 0.05}
"""


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page) == page, "docs/attacks.md is out of date; `make catalogue` renews it"
    with pytest.raises(ValueError, match="no <!--"):
        with_table("# Attacks")


def test_every_attack_is_on_it_with_an_equation_a_source_and_a_card() -> None:
    lines = attack_table().splitlines()[2:]
    attacks = {kind: cls for kind, cls in ATTACKS.items() if issubclass(cls, Attack)}
    assert len(lines) == len(attacks)
    for line, (kind, cls) in zip(lines, attacks.items(), strict=True):
        assert line.startswith(f"| `{kind}` |")
        assert cls.equation
        assert cls.source
        assert cls.threat.means
        assert len(re.split(r"(?<!\\)\|", line)) == 10


@pytest.mark.slow
def test_the_example_passes_its_trial_and_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "page_example.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    planned = plan(resolve(Document.parse(SCENARIO, "s.yaml")))
    check(planned.blocks)
    run_sweep(planned, tmp_path / "runs", 1, Listener(lambda *_: None, lambda _: None))
    [file] = (tmp_path / "runs" / "cells").glob("*.json")
    record = read_record(file)
    assert record.threats is not None
    assert [one.knowledge for one in record.threats] == ["defence"]
    assert any("acts from the" in event for event in record.events)
    sys.modules.pop("page_example", None)
