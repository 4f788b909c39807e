"""What a scenario cannot ask for: bounds of every number, values inside themselves, programs that end the program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import annotated_types
import pytest
from click.testing import Result
from plugin_tables import plugins
from pydantic import BaseModel
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Protocol
from autoflip_secure.interfaces import ClientPrivacy
from autoflip_secure.scenarios.config import tables
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.grid import assignments, points
from autoflip_secure.scenarios.config.loading import LoadedScenario, load, resolve
from autoflip_secure.scenarios.config.messages import models_in
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.settings import Settings
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.store.reading import read_record

ROOT = Path(__file__).parents[3]
TINY = """\
clients: 4
cohort: 2
rounds: 1
seeds: [31]
training: {epochs: 1}
algorithm: fedavg
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
"""


def read(text: str, *overrides: str) -> LoadedScenario:
    return resolve(Document.parse(text, "s.yaml"), overrides)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    (tmp_path / "s.yaml").write_text(TINY)
    return lambda *more: CliRunner().invoke(app, ["sweep", "s.yaml", "--no-report", *more])


def numbers(annotation: Any, extra: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The constraints on every number that an annotation mentions."""
    if get_origin(annotation) is Annotated:
        first, *more = get_args(annotation)
        yield from numbers(first, (*extra, *more))
    elif annotation in (int, float):
        yield tuple(part for one in extra for part in (one, *getattr(one, "metadata", ())))
    elif annotation is not bool:
        for argument in get_args(annotation):
            yield from numbers(argument, extra)


def unbounded(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    seen.add(model)
    for name, field in model.model_fields.items():
        for constraints in numbers(field.annotation, tuple(field.metadata)):
            if not any(isinstance(one, annotated_types.Le | annotated_types.Lt) for one in constraints):
                yield f"{model.__name__}.{name}"
        for inner in set(models_in(field.annotation)) - seen:
            yield from unbounded(inner, seen)


CHECKED_AGAINST_THE_DATA = {
    "owners",
    "train_samples",
    "test_samples",
    "min_samples",
    "classes_per_client",
    "target",
    "pairs",
}


def test_every_number_has_an_upper_bound() -> None:
    seen: set[type[BaseModel]] = {ClientPrivacy}  # abstract: the scenario knows its subclasses
    read_apart = tables.PRE_AGGREGATORS.values()  # an aggregator's class says only that they are pre-aggregators
    found = {one for model in (Settings, Protocol, *read_apart) for one in unbounded(model, seen)}
    assert {cls for table in plugins().values() for cls in table.values()} <= seen | {tables.PRIVACY["none"]}
    bounded_inside = {"GaussianNoise.sigma", "SecureSumConfig.parties"}  # 2 to 5, or as many addresses
    assert {one for one in found if one.split(".")[1] not in CHECKED_AGAINST_THE_DATA} <= bounded_inside


@pytest.mark.parametrize(
    "line",
    ["rounds: 1e12", "rounds: 1000000000000", "rounds: 100001", "evaluate_every: 100001", "training: {lr: 1e300}",
     "training: {epochs: 10001}", "exploration: {epochs: 1000000000}", "clients: 1000000000",
     "model: {kind: mlp, hidden: [1000000000]}", "attack: {kind: label_flip, window: {first: 1000000000}}",
     "algorithm: {name: geometric_median, aggregator: {steps: 1000000000}}"],
)  # fmt: skip
def test_absurd_numbers_are_refused(line: str) -> None:
    with pytest.raises(InputError, match=r"s\.yaml:1: .*should be less than"):
        read(line)


def test_what_the_file_allows_the_program_takes() -> None:
    """The bounds of a scenario and of what runs it are the same."""
    from autoflip_secure.scenarios.config.protocols import protocol

    settings = read("rounds: 100000\nevaluate_every: 100000\nclients: 100000\ncohort: 100000").cells[0].settings
    assert protocol(settings).rounds == 100_000


def test_a_sweep_of_too_many_cells_is_refused_before_it_is_made() -> None:
    axes = ", ".join(f"training.{key}: [{', '.join(map(str, range(1, 31)))}]" for key in ("epochs", "batch_size"))
    text = f"seeds: {{first: 10, count: 1000}}\nsweep: {{product: {{{axes}, rounds: [1, 2]}}}}"
    with pytest.raises(InputError, match=r"s\.yaml:2: sweep: comes to 1,800,000 cells with 1000 seeds; at most"):
        read(text)


@pytest.mark.parametrize(
    "sweep",
    ["{product: {rounds: [1, 2, 3], cohort: [2, 3]}}", "{zip: {rounds: [1, 2], cohort: [2, 3]}}", "null", "[]",
     "[{product: {rounds: [1, 2, 3]}, zip: {cohort: [2, 3]}}, {product: {clients: [9]}}]"],
)  # fmt: skip
def test_the_number_of_points_is_the_number_of_points(sweep: str) -> None:
    header = read(f"sweep: {sweep}").header
    assert points(header.sweep) == len(list(assignments(header.sweep)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attack: &x {kind: label_flip, pairs: *x}", "s.yaml:1: attack.pairs: an alias (*name) is inside its own"),
        ("a: 1\nsweep: &x {product: {rounds: [1, *x]}}", "s.yaml:2: sweep.product.rounds.1: an alias"),
        ("attack: &x [*x]", "s.yaml:1: attack.0: an alias"),
    ],
)
def test_an_alias_inside_its_own_anchor_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value).startswith(said)


def test_an_alias_inside_itself_in_an_override_is_blamed_on_the_override() -> None:
    with pytest.raises(InputError, match=r"^--set attack=&x \[\*x\]: attack\.0: an alias"):
        read("rounds: 3", "attack=&x [*x]")


def test_merges_that_double_with_every_line_are_refused() -> None:
    lines = ["a0: &a0 {k: 1}", *(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 60))]
    with pytest.raises(InputError, match=r"s\.yaml:\d+: merges \(<<\) of more than 100000 values"):
        Document.parse("\n".join(lines), "s.yaml")
    assert Document.parse("a: &a {k: 1}\nb: {<<: *a, l: 2}", "s.yaml").data["b"] == {"k": 1, "l": 2}


@pytest.mark.parametrize(
    ("overrides", "place", "said"),
    [
        (("data.kind=mnist", "data.root=/nowhere"), "--set data.", "mnist: "),
        (("data.kind=mnist",), "--set data.kind=mnist: ", "mnist: "),
        (("model.kind=cnn6",), "--set model.kind=cnn6: ", "model.hidden = [8]: should be a valid integer"),
        (("partition.kind=dirichlet", "partition.alpha=-1"), "--set partition.alpha=-1: ", "partition.alpha = -1"),
        (("clients=60", "cohort=70"), "--set cohort=70: ", "cohort = 70: is larger than clients = 60"),
        (("clients=1",), "--set clients=1: ", "cohort = 2: is larger than clients = 1"),
        (("model=no.such:thing",), "--set model=no.such:thing: ", "cannot import no.such"),
    ],
)
def test_an_override_that_does_not_fit_is_blamed(
    overrides: tuple[str, ...], place: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTOFLIP_DATA", str(tmp_path))
    path = tmp_path / "s.yaml"
    path.write_text(TINY)
    with pytest.raises(InputError) as caught:
        check(plan(load(path, overrides)).blocks)
    assert str(caught.value).startswith(place)
    assert said in str(caught.value)


ENDS = """
import sys
from torch import nn

def at_once(num_classes):
    sys.exit(0)

class Later(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(64, num_classes)
    def forward(self, x):
        if self.training and self.weight.requires_grad and len(x) > 2:
            sys.exit(0)
        return super().forward(x.flatten(1))
"""


def test_a_model_that_ends_the_program_is_no_success(sweep: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(ENDS)
    at_once = sweep("--set", "model=ends:at_once")
    assert (at_once.exit_code, at_once.stdout) == (2, "")
    assert "failed with SystemExit: it ends the program with 0; mend the function" in at_once.stderr
    for more in ((), ("--workers", "2", "--set", "seeds=[31,32]", "--set", "sweep={product: {rounds: [1, 2]}}")):
        later = sweep("--set", "model=ends:Later", "--set", "trainer=sequential", "--out", f"out{len(more)}", *more)
        assert later.exit_code == 3, later.output
        assert "SystemExit: 0" in later.stderr
        assert "Details: " in later.stderr


@pytest.mark.parametrize("name", ["", "  "])
def test_a_results_folder_without_a_name_is_refused(name: str, sweep: Callable[..., Result], tmp_path: Path) -> None:
    done = sweep("--out", name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: --out {name!r}: names no folder; give one, or leave it out for runs/NAME\n"
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_device_auto_runs_on_what_there_is(sweep: Callable[..., Result], tmp_path: Path) -> None:
    found = []
    for device in ("auto", "cpu"):
        done = sweep("--out", device, "--set", f"device={device}")
        assert done.exit_code == 0, done.output
        (path,) = (tmp_path / device / "cells").glob("*.json")
        found.append(read_record(path))
    losses = [[round_.train_loss for round_ in record.rounds] for record in found]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # on a GPU within rounding, here equal
