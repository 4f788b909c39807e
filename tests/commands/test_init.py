"""`init` writes a scenario that says everything, loads to what it was made of, and takes nobody's file."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from sizes import every
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.records.newer_keys import without_newer
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import load, resolve
from autoflip_secure.scenarios.config.settings import Scenario
from autoflip_secure.scenarios.config.sources import presets
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def test_every_key_has_its_default_and_a_line_of_help(here: Callable[..., Result], tmp_path: Path) -> None:
    done = here("init")
    assert (done.exit_code, done.stdout) == (
        0, "Wrote scenario.yaml. Run it with: autoflip-secure sweep scenario.yaml\n",
    )  # fmt: skip
    text = (tmp_path / "scenario.yaml").read_text()
    assert [line for line in text.splitlines() if len(line) > 80] == []
    for key, field in Scenario.model_fields.items():
        found = re.search(rf"((?:^# .+\n)+)^(?:# )?{key}:", text, re.MULTILINE)
        assert found is not None, key
        about = " ".join(found[1].replace("# ", " ").split())
        assert (field.description or "") in about
    empty = resolve(Document.parse("name: scenario\n", "x.yaml"))
    written = load("scenario.yaml")
    assert written.header == empty.header
    assert [cell.key for cell in written.cells] == [cell.key for cell in empty.cells]


def uncommented(text: str, key: str) -> str:
    """The file with the whole form of a component in place of its short one."""
    block = re.compile(rf"^{key}: .*\n# or, with every option:\n((?:# .*\n)+)", re.MULTILINE)
    found = block.search(text)
    assert found is not None, key
    return text.replace(found[0], re.sub("^# ", "", found[1], flags=re.MULTILINE))


@pytest.mark.parametrize("source", [(), ("--preset", "audit_demo"), ("--preset", "interplay")])
def test_whole_forms_say_the_same_and_everything(
    source: tuple[str, ...], here: Callable[..., Result], tmp_path: Path
) -> None:
    here("init", "short.yaml", *source)
    text = (tmp_path / "short.yaml").read_text()
    for key in ("data", "model", "algorithm"):
        text = uncommented(text, key)
    (tmp_path / "whole.yaml").write_text(text)
    short, whole = load("short.yaml"), load("whole.yaml")
    assert [cell.key for cell in whole.cells] == [cell.key for cell in short.cells]
    for key in ("data", "model", "algorithm"):  # what a cell without axes would have, word for word
        written = resolve(Document.parse(json.dumps({key: short.written[key]}), "x.yaml")).cells[0]
        assert without_newer(whole.written)[key] == without_newer(written.config)[key]


def test_the_whole_form_of_secure_sums_is_their_default(here: Callable[..., Result], tmp_path: Path) -> None:
    here("init")
    text = uncommented((tmp_path / "scenario.yaml").read_text(), "secure_sum")
    assert SecureSumConfig(**Document.parse(text, "x.yaml").data["secure_sum"]) == SecureSumConfig()


def test_what_was_chosen_has_its_source(here: Callable[..., Result], tmp_path: Path) -> None:
    here("init")
    text = " ".join((tmp_path / "scenario.yaml").read_text().replace("#", " ").split())
    config = load("scenario.yaml").cells[0].settings
    for one in (config.data, config.partition, config.model, config.training, config.exploration, config.guidance,
                config.algorithm.pruner, config.algorithm.aggregator, SecureSumConfig()):  # fmt: skip
        assert one.source
        assert f"source: {one.source}" in text


def test_its_example_of_a_sweep_works(here: Callable[..., Result], tmp_path: Path) -> None:
    here("init", "mine.yaml")
    text = (tmp_path / "mine.yaml").read_text()
    before, mark, after = text.partition("# sweep:")
    (tmp_path / "mine.yaml").write_text(before + re.sub("^# ", "", mark + after, flags=re.MULTILINE))
    assert len(load("mine.yaml").cells) == 20


@pytest.mark.parametrize("name", every(3, sorted(presets())))
def test_a_preset_keeps_its_cells(name: str, here: Callable[..., Result], tmp_path: Path) -> None:
    assert here("init", "my-copy.yaml", "--preset", name).exit_code == 0
    copy, preset = load("my-copy.yaml"), load(name)
    assert copy.header.name == "my-copy"
    assert copy.header.question == preset.header.question.strip()
    assert [cell.key for cell in copy.cells] == [cell.key for cell in preset.cells]
    text = (tmp_path / "my-copy.yaml").read_text()
    assert all(re.search(rf"^{key}:", text, re.MULTILINE) for key in Scenario.model_fields)


def test_it_runs_as_it_is(here: Callable[..., Result]) -> None:
    """With one seed, few rounds and few samples, so that the test is short."""
    assert here("init").exit_code == 0
    short = ("seeds=[10]", "rounds=1", "exploration.epochs=1", "data.train_samples=200", "data.test_samples=50")
    settings = [word for setting in short for word in ("--set", setting)]
    done = here("sweep", "scenario.yaml", *settings, "--no-report", "--workers", 1, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["folder"] == "runs/scenario"


def test_nobody_s_file_is_replaced(here: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("rounds: 3\n")
    done = here("init", "mine.yaml")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "mine.yaml: already exists; add --overwrite to replace it, or give another name" in done.stderr
    assert (tmp_path / "mine.yaml").read_text() == "rounds: 3\n"
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nothing")
    assert here("init", "link.yaml").exit_code == 2
    assert here("init", "mine.yaml", "--overwrite").exit_code == 0
    assert load("mine.yaml").cells[0].config["rounds"] == 60


def test_the_command_can_be_copied(here: Callable[..., Result], tmp_path: Path) -> None:
    done = here("init", "my file.yaml")
    assert done.stdout == "Wrote my file.yaml. Run it with: autoflip-secure sweep 'my file.yaml'\n"
    assert (
        (tmp_path / "my file.yaml").read_text().startswith("# A scenario for `autoflip-secure sweep 'my file.yaml'`.")
    )
    assert load("my file.yaml").header.name == "my-file"


def test_wrong_input_is_said(here: Callable[..., Result], tmp_path: Path) -> None:
    for arguments, expected in [
        (("mine",), "mine: a scenario file ends in .yaml; write mine.yaml"),
        (("x.yaml", "--preset", "demoo"), "--preset demoo: no such preset; did you mean 'demo'?"),
        (("no/such/folder/x.yaml",), "no/such/folder/x.yaml: cannot be written (No such file or directory)"),
    ]:
        done = here("init", *arguments)
        assert done.exit_code == 2
        assert expected in done.stderr
    assert list(tmp_path.iterdir()) == []
