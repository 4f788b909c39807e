"""Links within the documentation lead to files and anchors that are there. Addresses elsewhere are not asked."""

import documented
import pytest
from documented import ROOT

PAGES = documented.pages()


def lost(page: str, target: str) -> str:
    """What is wrong with a link of a page; empty if nothing is."""
    path, _, anchor = target.partition("#")
    found = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    if not found.is_relative_to(ROOT) or not found.exists():
        return f"there is no {target}"
    if anchor and found.suffix == ".md" and anchor not in documented.anchors(found.relative_to(ROOT).as_posix()):
        return f"{found.name} has no heading #{anchor}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    inside = [(line, target) for line, target in documented.links(page) if "://" not in target]
    found = [f"{page}:{line}: {wrong}" for line, target in inside if (wrong := lost(page, target))]
    assert not found, "\n".join(found)


def test_a_wrong_link_is_noticed() -> None:
    assert lost("docs/gate.md", "no_such_page.md")
    assert lost("docs/gate.md", "#no-such-heading")
    assert lost("docs/gate.md", "statistics.md#no-such-heading")
    assert not lost("docs/gate.md", "statistics.md#the-test-set")
    assert not lost("docs/gate.md", "../README.md#start")


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("I want to add …", "i-want-to-add-"),
        ("Aggregators: rows -> a step", "aggregators-rows---a-step"),
        ("Local rules: `fedprox`, `fedlex`", "local-rules-fedprox-fedlex"),
        ("`af.run(scenario, *, out=None)`", "afrunscenario--outnone"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert documented.slug(heading) == anchor
