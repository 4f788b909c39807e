"""YAML is read as what it says, or named with line and way out; what nobody wrote is blamed on nobody."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import DEEPEST, Document, parse_value
from autoflip_secure.scenarios.config.loading import load, resolve
from autoflip_secure.scenarios.config.yaml_text import write_yaml


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        resolve(Document.parse(text, "s.yaml"), overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("+4", 4), ("0", 0), ("1_000", 1000), ("0x1F", 31), ("0o17", 15), ("0b101", 5),
        ("1e-3", 0.001), ("1E3", 1000.0), ("1.0e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-1_0.5", -10.5), ("00.5", 0.5),
        ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("2026-01-01", "2026-01-01"), ("12:00:00 noon", "12:00:00 noon"), ("=", "="), ("y", "y"), ("nope", "nope"),
        ("1.2.3", "1.2.3"), ("0x", "0x"), ("1__0", "1__0"), ("'010'", "010"), ('"no"', "no"), ("!!str 010", "010"),
        ("!!float 3", 3.0), ("e5", "e5"), ("50%", "50%"),
    ],
)  # fmt: skip
def test_plain_text_is_what_it_says(text: str, value: Any) -> None:
    found = parse_value(text)
    assert (found, type(found)) == (value, type(value))
    assert Document.parse(f"a: {text}", "s.yaml").data == {"a": value}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("010", "10"), ("007", "7"), ("-010", "-10"), ("08", "8"), ("00", "0"), ("0_7", "7"), ("1:30", "90"),
        ("-1:30", "-90"), ("1:30:30.5", "5430.5"), ("yes", "true"), ("NO", "false"), ("On", "true"), ("off", "false"),
    ],
)  # fmt: skip
def test_what_versions_of_yaml_read_differently_is_refused_with_line_and_fix(text: str, meant: str) -> None:
    said = f"`{text}` .* of YAML.*; write {re.escape(meant)}, or '{text}' in quotes for text$"
    for where, message in (
        ("s.yaml:3: model.arguments.x: ", refusal(f"clients: 9\nmodel:\n  arguments: {{x: {text}}}")),
        ("s.yaml:1: sweep.product.cohort.1: ", refusal(f"sweep: {{product: {{cohort: [1, {text}]}}}}")),
        (f"--set rounds={text}: rounds: ", refusal("clients: 9", f"rounds={text}")),
        ("s.yaml:2: data.a: ", refusal(f"data:\n  <<: {{a: {text}}}")),
    ):
        assert message.startswith(where)
        assert re.search(said, message), message
    for way_out in (f"'{text}'", meant):
        parse_value(way_out)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!!timestamp notatime", "the tag `!!timestamp` is not understood in a scenario; leave it out"),
        ("!!bool maybe", "`!!bool maybe`: that is not a valid bool"), ("!!bool", "`!!bool `: that is not a valid bool"),
        ("!!int 010", "`!!int 010`: that is not a valid int"), ("!!float x", "that is not a valid float"),
        ("!!null x", "not a valid null"), ("!!binary x", "the tag `!!binary`"), ("!!set {a}", "the tag `!!set`"),
        ("!!omap [a: 1]", "the tag `!!omap`"), ("!!map 3", "the tag `!!map`"), ("!mine {}", "the tag `!mine`"),
        ("!!python/name:os.system x", "the tag `!!python/name:os.system`"), ("!!int [1]", "the tag `!!int`"),
    ],
)  # fmt: skip
def test_a_tag_whose_value_does_not_fit_is_named(value: str, said: str) -> None:
    assert refusal(f"\nquestion: {value}").startswith("s.yaml:2: question: ")
    assert said in refusal(f"\nquestion: {value}")
    assert refusal("rounds: 3", f"question={value}").startswith(f"--set question={value}: question: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rounds: 1e400", "rounds = 1e400: is beyond 1.8e308"),
        ("rounds: 1e-400", "rounds = 1e-400: is so small that it would count as 0"),
        (f"rounds: {'9' * 5000}", "rounds = a number of more than 300 digits: whole numbers go up to 2^63 - 1"),
        ("rounds: -0xffffffffffffffff", "rounds = -1.84e+19: whole numbers"),
        ("model: {arguments: {x: .nan}}", "model.arguments.x = nan: should be a finite number"),
        ("sweep: {product: {model.arguments.x: [-.inf]}}", "sweep.product.model.arguments.x.0 = -inf: should be"),
        ('question: "\\e[31m"', "question = '\\x1b[31m': has the control character U+001B; take it out"),
        ('data: {path: "a\\0b"}', "has the control character U+0000"),
        ('question: "\\ud800"', "has the control character U+D800"),
        ('"a\\nb": 1', "key 'a\\nb': has the invisible character U+000A"),
        ("attack: {\u00a0kind: none}", "has the invisible character U+00A0"),
        (f"a: {'[' * 60}{']' * 60}", "it is nested too deeply"),
        (f"a: {'[' * 100_000}", "it is nested too deeply"),
    ],
)  # fmt: skip
def test_values_that_nothing_could_work_with_are_refused_by_name(line: str, said: str) -> None:
    message = refusal(line)
    assert said in message
    assert message.startswith("s.yaml")
    assert message.isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attack:\n  kind: none\n  1: 2", "s.yaml:3: key `1` in attack: keys must be text; write '1' in quotes"),
        ("on: 2", "s.yaml:1: key `on`: keys must be text; write 'on' in quotes"),
        ("010: 2", "s.yaml:1: key `010`: keys must be text"),
        ("null: 2", "s.yaml:1: key `null`: keys must be text"),
        ("? [a]\n: 2", "s.yaml:1: a list is where a key should be; keys must be text"),
        ("a: {{b: 1}: 2}", "s.yaml:1: a mapping is where a key should be"),
    ],
)
def test_keys_that_are_no_text_are_named(text: str, said: str) -> None:
    assert refusal(text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<b>: 1", "unknown key '<b>'; allowed: algorithm"),
        ("attack: {kind: none, <b>: 1}", "unknown key '<b>' in attack; allowed: kind"),
        ("training: {<one>: 1}", "unknown key '<one>' in training; allowed"),
        ("sweep: {<one>: {}}", "unknown key '<one>' in sweep; allowed: product, zip"),
        ("sweep: {<union>: {}}", "unknown key '<union>' in sweep"),
        ("sweep: [{<union>: {}}]", "unknown key '<union>' in sweep.0"),
        ("<union>: 1", "unknown key '<union>'"),
        ("sweep: {product: {<one>: [1]}}", "unknown key '<one>'"),
        ("'[key]': 1", "unknown key '[key]'"),
        ("'': 1", "unknown key ''"),
    ],
)
def test_an_unknown_key_is_named_whatever_it_looks_like(text: str, said: str) -> None:
    assert refusal(text).startswith(f"s.yaml:1: {said}")
    assert "; allowed: " in refusal(text)


def test_key_paths_end_somewhere() -> None:
    deep = "a." * 1500 + "b"
    assert "unknown key of 1501 parts; no setting is nested that deep" in refusal("rounds: 3", f"{deep}=1")
    assert "unknown axis 'a.a." in refusal(f"sweep: {{product: {{{deep}: [1]}}}}".replace(deep, f"? {deep}\n"))
    assert "no setting is nested that deep" in refusal(f"sweep:\n  zip:\n    ? {deep}\n    : [1]")
    assert len(refusal("rounds: 3", f"{deep}=1")) < 300
    most = ".".join(["model.arguments", *"a" * (DEEPEST - 2)])
    assert "key 'kind' is missing" not in refusal("model: a:b", f"{most}.b=1")


def test_a_percentage_or_a_decimal_comma_comes_with_the_way_out() -> None:
    for written in ("50%", "50 %", "'0,5'", "'0.5'"):
        said = refusal(f"attack: {{kind: gaussian_noise, scope: {written}}}")
        assert said.startswith("s.yaml:1: attack.scope = ")
        assert re.search(r"; write 0\.5( without quotes)?$", said), said
    assert refusal("rounds: '60'").endswith("should be a number; write 60 without quotes")
    assert refusal("rounds: sixty").endswith("(rounds of training)")
    assert refusal("clients: 9", "attack={kind: label_flip, share: 30%}").endswith("; write 0.3")


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("\nclients: 3", (), "s.yaml:2: cohort = 5 (the default): is larger than clients = 3"),
        ("rounds: 2", ("clients=3",), "--set clients=3: cohort = 5 (the default): is larger than clients = 3"),
        ("clients: 3\ncohort: 5", (), "s.yaml:2: cohort = 5: is larger than"),
        ("cohort: 1\nclients: 2\nattack: label_flip", (), "s.yaml:3: attack.scope = 0.2 (the default): of 2 clients"),
        ("secure_sum: {parties: 2}", (), "exploration.method = robust (the default): needs every explorer's"),
        ("cohort: 3\nsweep: {product: {clients: [9, 2]}}", (), "s.yaml:1: cohort = 3: is larger than clients = 2"),
        ("sweep:\n  product:\n    clients: [9, 2]", (), "s.yaml:3: cohort = 5 (the default): is larger"),
        ("x: &x {lr: 0}\ntraining:\n  <<: *x", (), "s.yaml:1: training.lr = 0: should be greater than 0"),
        ("training: &x {epochs: 1}\nexploration: *x", ("training.epochs=0",), "--set training.epochs=0: training.ep"),
    ],
)  # fmt: skip
def test_what_nobody_wrote_is_called_a_default_and_the_place_is_where_it_was_written(
    text: str, overrides: tuple[str, ...], said: str
) -> None:
    assert said in refusal(text, *overrides)


def test_an_override_of_one_alias_leaves_the_other() -> None:
    loaded = resolve(Document.parse("training: &x {epochs: 2}\nexploration: *x", "s.yaml"), ["training.epochs=7"])
    settings = loaded.cells[0].settings
    assert (settings.training.epochs, settings.exploration.epochs) == (7, 2)


@pytest.mark.parametrize(
    "file", ["my scenario (1).yaml", "_x.yaml", "ü.yaml", f"{'a' * 200}.yaml", "010.yaml", "-.yml"]
)
def test_a_file_whose_name_is_no_name_still_has_one(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("rounds: 3")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", load(tmp_path / file).header.name)


def test_a_scenario_that_is_no_file_is_neither_waited_for_nor_a_crash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "dev.yaml").symlink_to("/dev/zero")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(2**25)
    for name, said in (
        ("pipe", "it is a pipe"), ("dev", "a device"), ("large", "more than 16 MiB"),
        ("a" * 300, "File name too long"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"cannot be read .*{said}"):
            load(tmp_path / f"{name}.yaml")
    with pytest.raises(InputError, match="is neither a scenario file nor a preset"):
        load("a" * 5000)


lookalikes = st.from_regex(r"\A[-+0-9_.:eExobynYNOnfFsS~<=]{1,6}\Z")
keys = st.from_regex(r"\A[a-z]{1,3}\Z") | st.sampled_from(["no", "010", "1:30", "<<", "=", "~", "2026-01-01", "1e3"])
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cc", "Cs"])) | lookalikes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(keys, plain, min_size=1))
def test_what_is_written_is_read_back(data: dict[str, Any]) -> None:
    assert repr(Document.parse(write_yaml(data), "s.yaml").data) == repr(data)


def test_folders_from_before_read_alike() -> None:
    """PyYAML's own writer, as older versions used it."""
    data = {"question": "yes", "a": 1, "lr": 1e-07, "b": True, "c": None, "d": ["1:30", "2026-01-01", "010"], "e": 1e22}
    assert Document.parse(yaml.safe_dump(data), "s.yaml").data == data
