"""Pre-aggregators in a scenario: how they are written, what is refused, what a cell is called, and one from outside."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config import tables
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import CellSpec, resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.settings import json_schema
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check

TINY = """
name: tiny
clients: 6
cohort: 5
rounds: 2
seeds: [4]
training: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
algorithm: {name: trimmed_mean}
"""
OUTSIDE = """
from autoflip_secure.interfaces import Aggregate, Aggregator


class Half(Aggregator):
    def aggregate(self, state, view):
        trust = view.samples / view.samples.sum()
        return Aggregate(0.5 * trust @ view.updates, trust, None, state)
"""
BEFORE = "algorithm.aggregator.before"


def cells(*overrides: str) -> tuple[CellSpec, ...]:
    return resolve(Document.parse(TINY, "s.yaml"), overrides).cells


def ran(*overrides: str) -> RunRecord:
    (block,) = plan(resolve(Document.parse(TINY, "s.yaml"), overrides)).blocks
    (record,) = run_block(block)
    return record


@pytest.mark.parametrize("kind", sorted(tables.AGGREGATORS))
def test_a_cell_without_pre_aggregators_is_called_what_it_was(kind: str) -> None:
    (cell,) = cells(f"algorithm={{name: mine, pruner: none, aggregator: {kind}}}")
    (said,) = cells(f"algorithm={{name: mine, pruner: none, aggregator: {{kind: {kind}, before: []}}}}")
    assert "before" not in cell.config["algorithm"]["aggregator"]
    assert "neighbours" not in cell.config["algorithm"]["aggregator"]
    assert cell.key == said.key


def test_names_and_mappings_in_their_order() -> None:
    (short,), (long,) = (
        cells(f"{BEFORE}=[arc, nnm]"),
        cells(f"{BEFORE}=[{{kind: arc}}, {{kind: nnm, bad_share: null}}]"),
    )
    (turned,) = cells(f"{BEFORE}=[nnm, arc]")
    assert short.key == long.key != turned.key
    assert [one["kind"] for one in short.config["algorithm"]["aggregator"]["before"]] == ["arc", "nnm"]
    (again,) = cells(f"{BEFORE}={short.config['algorithm']['aggregator']['before']}".replace("None", "null"))
    assert again.key == short.key, "what a record says is read as it was written"


SCORED = "algorithm={{name: mine, pruner: none, aggregator: {{kind: {}, before: [{}]}}}}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((f"{BEFORE}=[nmn]",), r"before\.0: unknown kind 'nmn'; did you mean 'nnm'\? allowed: arc, bucketing, clip"),
        ((f"{BEFORE}=nnm",), r"before = 'nnm': should be a list"),
        ((f"{BEFORE}=[arc, {{kind: clip, norm: 0}}]",), r"before\.1\.norm = 0: should be greater than 0"),
        ((f"{BEFORE}=[{{kind: clip, size: 2}}]",), r"unknown key 'size' in algorithm\.aggregator\.before\.0"),
        ((f"{BEFORE}=[{{kind: nnm, bad_share: 0.5}}]",), r"before\.0\.bad_share = 0\.5: should be less than 0\.5"),
        ((f"{BEFORE}=[{{kind: bucketing, size: 3}}]",), r"of 5 rows 1 are assumed malicious.* 1 of 2 rows.*smaller"),
        ((f"{BEFORE}=[bucketing]", "algorithm.aggregator.bad_share=0.4"), r"before\.0 = bucketing: of 5 rows 2 are"),
        ((SCORED.format("agreement", "bucketing"),), r"mixes clients, and agreement remembers single ones"),
        ((SCORED.format("mean", "nnm"), "secure_sum={updates: true}"), r"'nnm' needs every.*set before: \[\]"),
        (
            ("algorithm={name: mda, aggregator: {bad_share: 0.4}}", "clients=40", "cohort=40"),
            r"bad_share = 0\.4.*: of 40 rows 16 are assumed malicious, which makes 6\.29e\+10 subsets",
        ),
        (("algorithm={name: smea}", "clients=100", "sampling=poisson"), r"of 100 rows 20 are.*take a smaller cohort"),
        ((f"{BEFORE}=[arc, last_rows]",), r"before\.1 = last_rows: remembers what clients sent, so it stands first"),
        (
            (
                "algorithm={name: mean, aggregator: {kind: mean, before: [last_rows]}, pruner: none}",
                "secure_sum={updates: true}",
            ),
            r"'last_rows' needs every.*set before: \[\]",
        ),
        (("algorithm={name: lotteryfl, aggregator: {before: [nnm]}}",), r"before = nnm: works with whole rows"),
    ],
)
def test_what_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cells(*overrides)


def test_an_aggregator_from_outside_has_pre_aggregators_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rule.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    record = ran("algorithm={name: own, pruner: none, aggregator: {kind: 'own_rule:Half', before: [last_rows, nnm]}}")
    aggregator = record.config["algorithm"]["aggregator"]
    assert [one["kind"] for one in aggregator["before"]] == ["last_rows", "nnm"]


def test_a_clipped_mean_is_no_mean_to_a_proof() -> None:
    """Central noise is proven for a sum whose weights do not depend on rows."""
    private = "privacy={kind: client_level, noise_multiplier: 1}"
    check(plan(resolve(Document.parse(TINY, "s.yaml"), ["algorithm=fedavg", private])).blocks)
    mixed = "algorithm={name: fedavg, aggregator: {before: [clip]}}"
    blocks = plan(resolve(Document.parse(TINY, "s.yaml"), [mixed, private])).blocks
    with pytest.raises(InputError, match="sensitivity is not"):
        check(blocks)


def test_f_as_used_is_in_the_record() -> None:
    record = ran(f"{BEFORE}=[nnm]")
    assert [one.assumed_malicious for one in record.rounds] == [{"nnm": 1, "trimmed_mean": 1}] * 2
    written = record.model_dump(mode="json")
    assert RunRecord.model_validate(written) == record
    plain = ran("algorithm=fedavg")
    assert all("assumed_malicious" not in one for one in plain.model_dump(mode="json")["rounds"])


def test_the_schema_lists_them_below_every_aggregator() -> None:
    schema = json_schema()
    for kind, cls in tables.AGGREGATORS.items():
        items: Any = schema["$defs"][cls.__name__]["properties"]["before"]["items"]
        refs = {one["$ref"].rsplit("/", 1)[-1] for form in items["anyOf"] for one in form.get("anyOf", [form])
                if "$ref" in one}  # fmt: skip
        assert refs == {one.__name__ for one in tables.PRE_AGGREGATORS.values()}, kind


OWN = '''
from autoflip_secure.interfaces import Mixture, PreAggregator


class Halved(PreAggregator):
    """Every row is halved."""

    def mix(self, view):
        n = len(view.updates)
        return Mixture(0.5 * view.updates, 0.5 * view.updates.new_ones(n).diag())


class Greedy(PreAggregator):
    """Counts for more than it is."""

    def mix(self, view):
        n = len(view.updates)
        return Mixture(2 * view.updates, 2 * view.updates.new_ones(n).diag())


class Shorter(PreAggregator):
    """Leaves out the last row, and does not say so."""

    def mix(self, view):
        n = len(view.updates)
        return Mixture(view.updates[:-1], view.updates.new_ones(n).diag()[:-1])


class InPlace(PreAggregator):
    """Changes what it is shown."""

    def mix(self, view):
        view.updates.mul_(0.5)
        return Mixture(view.updates.clone(), 0.5 * view.updates.new_ones(len(view.updates)).diag())
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_mixers.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(str(tmp_path))


MINE = "algorithm={{name: mine, pruner: none, aggregator: {{kind: mean, before: ['own_mixers:{}']}}}}"


@pytest.mark.usefixtures("own")
def test_one_from_outside_runs_and_is_named_in_the_record() -> None:
    record, plain = ran(MINE.format("Halved")), ran("algorithm={name: mine, pruner: none, aggregator: mean}")
    assert record.config["algorithm"]["aggregator"]["before"] == [{"kind": "own_mixers:Halved"}]
    assert record.rounds[0].step_norm == pytest.approx(plain.rounds[0].step_norm / 2, rel=1e-5)
    assert record.rounds[0].trust == plain.rounds[0].trust
    with pytest.raises(InputError, match=r"algorithm\.name = fedavg: .* its pre-aggregator comes from outside"):
        cells("algorithm={name: fedavg, aggregator: {before: ['own_mixers:Halved']}}")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "why"),
    [("Greedy", "of a sum above 0 and at most 1"), ("Shorter", "expected a tensor of shape"), ("InPlace", "in place")],
)
def test_what_one_from_outside_must_not_do(name: str, why: str) -> None:
    blocks = plan(resolve(Document.parse(TINY, "s.yaml"), [MINE.format(name)])).blocks
    with pytest.raises(InputError, match=rf"algorithm\.aggregator\.before\.0.*own_mixers:{name}.*{why}"):
        check(blocks)
