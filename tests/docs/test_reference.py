"""Reference pages say what the code says; every key, component, command and name is on one of them."""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

import documented
import forked
import pytest
import typer

import autoflip_secure
from autoflip_secure import interfaces
from autoflip_secure.cli import app
from autoflip_secure.scenarios.catalogue.entries import Catalogue

TOOLS = documented.ROOT / "docs" / "tools"
REFERENCE = documented.ROOT / "docs" / "reference"
CATALOGUE = Catalogue.read()


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("reference")
    finally:
        sys.path.remove(str(TOOLS))


def written(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_reference_pages_are_up_to_date(tmp_path: Path) -> None:
    """In a process where signatures are not wrapped by the checks of shapes that tests run under."""
    code = f"import sys; sys.path.insert(0, {str(TOOLS)!r}); import reference; print(*reference.stale(), end='')"
    done = forked.run(code=code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not done.stdout, f"`make catalogue` (or python docs/tools/reference.py) renews {done.stdout}"


def test_a_stale_page_is_noticed(reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PLACE", tmp_path)
    monkeypatch.setattr(reference, "PAGES", {"models.md": reference.PAGES["models.md"]})
    (tmp_path / "models.md").write_text(reference.text("models.md").replace("what it is", "what it was"))
    (tmp_path / "gone.md").write_text(f"# Gone\n\n{reference.MARK}\n")
    (tmp_path / "by_hand.md").write_text("# By hand\n")
    assert [path.name for path in reference.stale()] == ["models.md", "gone.md"]


@pytest.mark.parametrize("family", [name for name in CATALOGUE.families if name != "secure_sum"])
def test_every_component_has_its_options_on_the_page(family: str) -> None:
    page = written(f"{family}.md")
    assert len(CATALOGUE.families[family]) > 1
    for kind, entry in CATALOGUE.families[family].items():
        section = page.partition(f"\n## `{kind}`\n")[2].partition("\n## ")[0]
        common = page.partition("\n## Options of all\n")[2].partition("\n## ")[0]
        assert section.strip(), kind
        for option in entry.options:
            assert f"| `{option}` |" in section + common, f"{kind}: {option}"


def test_every_key_of_a_scenario_is_on_the_page() -> None:
    page = written("scenario.md")
    for key, node in CATALOGUE.schema["properties"].items():
        assert f"| `{key}` |" in page or f"\n## `{key}`\n" in page, key
        if "$ref" in node:
            for inner in CATALOGUE.schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]["properties"]:
                section = page.partition(f"\n## `{key}`\n")[2].partition("\n## ")[0]
                assert f"| `{inner}` |" in section, f"{key}.{inner}"


def test_every_command_has_its_options_on_the_page() -> None:
    page = written("commands.md")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) > 10
    for name, command in commands.items():
        section = page.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert section, name
        for parameter in command.params:
            if parameter.param_type_name == "option" and "--help" not in parameter.opts:
                assert parameter.opts[0] in section, f"{name} {parameter.opts[0]}"


def test_every_public_name_is_on_a_page() -> None:
    for name in autoflip_secure.__all__:
        assert f"\n## `{name}`\n" in written("python.md"), name
    things = [name for name in interfaces.__all__ if inspect.isclass(getattr(interfaces, name))]
    assert len(things) > 40
    for name in things:
        assert f"\n## `{name}`\n" in written("interfaces.md"), name
