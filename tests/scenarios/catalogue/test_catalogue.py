"""The shipped catalogue is what the classes say, is left aside where it may not be whole, and is shown whole."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from plugin_tables import plugins
from pydantic import VERSION, BaseModel, ValidationError
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.commands.completion import families
from autoflip_secure.interfaces import Plugin
from autoflip_secure.scenarios.catalogue import derive, entries
from autoflip_secure.scenarios.catalogue.entries import FILE, Catalogue

ROOT = Path(__file__).parents[3]
KNOWN = Catalogue.read().families
PLUGINS = [(family, kind, cls) for family, table in plugins().items() for kind, cls in table.items()]


def listed(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["list", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@functools.cache
def derived_catalogue() -> Catalogue:
    return derive.derive()


def test_the_file_is_what_the_classes_say() -> None:
    derived = derived_catalogue()
    assert derived.families == KNOWN, f"{FILE.name} is out of date; `make catalogue` renews it"
    assert {family: list(found) for family, found in derived.families.items() if family in plugins()} == {
        family: list(table) for family, table in plugins().items()
    }


TESTED = re.search(r"^pydantic==(.+)$", (ROOT / ".ci" / "tested.txt").read_text(), re.MULTILINE)


@pytest.mark.skipif(TESTED is None or TESTED[1] != VERSION, reason="another pydantic puts a schema in other words")
def test_the_file_has_the_schema_that_the_classes_give() -> None:
    assert Catalogue.read() == derived_catalogue(), f"{FILE.name} is out of date; `make catalogue` renews it"
    assert FILE.read_text(encoding="utf-8") == Catalogue.read().text()


@pytest.mark.parametrize(("family", "kind", "cls"), PLUGINS, ids=[f"{family}-{kind}" for family, kind, _ in PLUGINS])
def test_every_plugin_has_a_source_and_describes_its_options(family: str, kind: str, cls: type[Plugin]) -> None:
    entry = KNOWN[family][kind]
    assert entry.source == cls.source != ""
    assert entry.summary == (cls.__doc__ or "").splitlines()[0]
    own = {key: field for key, field in cls.model_fields.items() if key != "kind"}
    assert [key for key in entry.options if "." not in key] == list(own)
    for key, field in own.items():
        option = entry.options[key]
        assert option.description, key
        assert option.required == field.is_required()
        if not option.required:
            value = field.get_default(call_default_factory=True)
            plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            assert option.default == json.loads(json.dumps(plain))
    shown = listed(family, kind)
    assert max(map(len, shown.splitlines())) <= 80
    assert " ".join(entry.source.split()) in " ".join(shown.split())
    assert re.findall(r"^  (\S+): ", shown, re.MULTILINE) == list(entry.options)


def bounded() -> list[tuple[type[Plugin], str, float]]:
    """Class, option, and a value just outside the bounds that the catalogue states."""
    found = []
    for family, kind, cls in PLUGINS:
        for key, option in KNOWN[family][kind].options.items():
            bounds = r"(?:(\S+) to (\S+?)|at least (\S+?)|above (\S+))"
            limits = re.match(rf"(?:whole )?number, {bounds}(?:;| and|$)", option.type)
            if limits is None or "." in key:
                continue
            low, high, least, above = limits.groups()
            step = 1 if option.type.startswith("whole") else 1e-9
            found += [(cls, key, float(above))] if above else [(cls, key, float(low or least) - step)]
            found += [(cls, key, float(high) * (1 + 1e-9) + step)] if high else []
    return found


def test_stated_bounds_are_where_values_are_refused() -> None:
    outside = bounded()
    assert len(outside) > 50
    for cls, key, value in outside:
        with pytest.raises(ValidationError) as error:
            cls.model_validate({key: int(value) if value == int(value) else value})
        assert key in {str(one["loc"][0]) for one in error.value.errors() if one["loc"]}, (cls, key, value)


def test_options_stand_below_every_entry() -> None:
    for family, known in KNOWN.items():
        lines = listed(family).splitlines()
        assert max(map(len, lines)) <= 80
        assert [line.split("  ")[0] for line in lines if not line.startswith(" ")] == list(known)
        shown = {line.strip().split(": ")[0] for line in lines if re.match(r"    \S", line)}
        assert shown == {key for name, entry in known.items() for key in entry.options if key != name}
    sigma = KNOWN["attacks"]["gaussian_noise"].options["sigma"]
    assert (sigma.type, sigma.default, sigma.value) == ("number, at least 0", 0.5, "0.5")
    assert "factory: required" in listed("models")
    assert "data: {kind: npz, path: …}" in listed("datasets", "npz")
    assert "pruner {kind: threshold}" in " ".join(listed("algorithms", "autoflip").split())


def test_the_json_of_one_entry_is_typed() -> None:
    told: dict[str, Any] = json.loads(listed("models", "custom", "--json"))
    assert told["options"]["factory"]["required"] is True
    assert told["options"]["arguments"] == {
        "type": "mapping", "default": {}, "required": False, "description": "further keyword arguments of the function"
    }  # fmt: skip


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"schema": {}, "more": {}}'])
def test_a_damaged_file_is_named(damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(entries, "FILE", tmp_path / "catalogue.json")
    for written in (False, True):
        if written:
            (tmp_path / "catalogue.json").write_text(damage)
        done = CliRunner().invoke(app, ["list"])
        assert done.exit_code == 2
        assert f"error: {tmp_path / 'catalogue.json'}: missing or damaged" in done.stderr
        assert families("") == [], "a shell shows no error"
