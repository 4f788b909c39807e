"""docs/defenses.md says what the classes say."""

import pytest

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
