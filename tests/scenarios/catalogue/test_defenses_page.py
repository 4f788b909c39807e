"""docs/defenses.md says what the classes say."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import pytest
import torch

from autoflip_secure.interfaces import RoundView
from autoflip_secure.models.layout import Layout, Segment
from autoflip_secure.scenarios.catalogue import defenses_page
from autoflip_secure.scenarios.catalogue.capabilities import capabilities
from autoflip_secure.scenarios.config.tables import AGGREGATORS, PRE_AGGREGATORS

PAGE = defenses_page.PAGE.read_text(encoding="utf-8")
ALL = {**AGGREGATORS, **PRE_AGGREGATORS}


def test_the_page_is_up_to_date() -> None:
    assert defenses_page.page() == PAGE, "docs/defenses.md is out of date; `make catalogue` renews it"


@pytest.mark.parametrize("kind", ALL)
def test_every_rule_has_a_line_an_equation_a_source_and_its_needs(kind: str) -> None:
    rule, needs = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |")]
    _, _, summary, equation, source, _ = (part.strip() for part in rule.replace("\\|", "¦").split("|"))
    assert summary
    assert equation.startswith("`")
    assert source
    assert all(text in needs for text in capabilities(ALL[kind]).values())


def test_what_classes_declare_is_what_they_do() -> None:
    for kind, cls in AGGREGATORS.items():
        rule = cls()
        assert rule.assumes_malicious == (rule.assumed(5) is not None) == ("bad_share" in cls.model_fields), kind
        assert (cls.start.__qualname__ == "Aggregator.start") == (rule.remembers == ""), kind
    for kind, before in PRE_AGGREGATORS.items():
        assert before.assumes_malicious == ("bad_share" in before.model_fields), kind


def test_what_is_remembered_of_clients_is_as_large_as_is_said() -> None:
    """Numbers about each client, or a row of each."""
    clients, params = 6, 40
    layout = Layout((Segment("w", "", "weight", (1, params), 0, params, True, True, True, False),))
    rows = torch.randn(clients, params, generator=torch.Generator().manual_seed(0))
    for kind, cls in AGGREGATORS.items():
        rule = cls()
        if rule.remembers not in ("clients", "rows") or rule.needs_guidance:
            continue
        state = rule.start(layout, torch.zeros(params), clients, None)
        view = RoundView(
            round=1, clients=torch.arange(clients), samples=torch.ones(clients), weights=torch.zeros(params),
            mask=torch.ones(params, dtype=torch.bool), guidance=None, layout=layout, shrinkage=torch.zeros(clients),
            updates=rows, generator=lambda *_: torch.Generator(),
        )  # fmt: skip
        held = numbers_in(rule.aggregate(state, view).state)
        assert (held >= clients * params) == (rule.remembers == "rows"), kind


def numbers_in(state: Any) -> int:
    """Of all tensors of a state."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    parts = state.values() if isinstance(state, Mapping) else vars(state).values() if is_dataclass(state) else ()
    return sum(map(numbers_in, parts))
