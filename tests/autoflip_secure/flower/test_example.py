"""examples/flower: its apps, as Flower loads them, with the configuration that its pyproject gives to a run."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

WHY = "Flower is not among the test tools, for it keeps typer, rich and protobuf back: pip install '.[flower]'"
pytest.importorskip("flwr", reason=WHY)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

from flwr.app import Context, RecordDict  # noqa: E402
from in_process import InProcess  # noqa: E402
from runs import by_engine  # noqa: E402

FOLDER = Path(__file__).parents[3] / "examples" / "flower"
APP = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]


def loaded(component: str) -> Any:
    module, _, name = APP["components"][component].partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in [name for name in sys.modules if name.startswith("digits_federation")]:
        del sys.modules[name]


def test_the_example_prints_rounds_of_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    config = {**APP["config"], "rounds": 2}
    grid = InProcess([loaded("clientapp")] * config["clients"])
    for _, context in grid.nodes.values():
        context.run_config = config
    context = Context(1, 1, {}, RecordDict(), config)
    loaded("serverapp")(grid, context)
    record, _ = by_engine(importlib.import_module("digits_federation.task").federation(context))
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("round ")]
    assert printed == [
        f"round {one.round}: clients {one.participants}, density {one.density:.3f}, "
        f"{one.bytes.uplink_values:,} bytes up, accuracy {one.test_accuracy:.4f}"
        for one in record.rounds
    ]
