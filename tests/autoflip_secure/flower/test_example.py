"""examples/flower: its apps, as Flower loads them, with the configuration that its pyproject gives to a run."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import documented
import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer

WHY = "Flower is not among the test tools, for it keeps typer, rich and protobuf back: pip install '.[flower]'"
pytest.importorskip("flwr", reason=WHY)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

from both_ways import by_engine  # noqa: E402
from flwr.app import Context, RecordDict  # noqa: E402
from in_process import InProcess  # noqa: E402

from autoflip_secure.flower import messages  # noqa: E402
from autoflip_secure.training import evaluate  # noqa: E402

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


def test_the_three_files_of_the_page_run_on_data_of_the_clients_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in documented.blocks("docs/flower.md"):
        first = block.text.partition("\n")[0]
        if first.startswith("# needs Flower: "):
            shorter = block.text.replace('"rounds": 20', '"rounds": 2')
            (tmp_path / first.removeprefix("# needs Flower: ")).write_text(shorter, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    for client in range(9):  # of ten; the server waits for eight
        np.savez(tmp_path / f"{client}.npz", x=x[client::10], y=y[client::10])
    try:
        client, server = (importlib.import_module(name).app for name in ("client_app", "server_app"))
        agreed = importlib.import_module("task").FEDERATION
        grid = InProcess([client] * 9, lambda k: {"partition-id": k, "data": str(tmp_path / f"{k}.npz")})
        server(grid, Context(1, 1, {}, RecordDict(), {}))
    finally:
        for name in ("client_app", "server_app", "task"):
            sys.modules.pop(name, None)
    rounds = [one for one, _ in grid.seen if one.metadata.message_type == messages.ROUND]
    last = messages.told(rounds[-1].content, agreed.kit.layout)
    assert 0 < int(last.mask.sum()) < len(last.mask), "something is pruned"
    test = torch.from_numpy(x[9::10]).float(), torch.from_numpy(y[9::10])
    accuracy, _ = evaluate(agreed.kit.module, agreed.kit.layout, last.weights[None], *test)
    assert float(accuracy) > 0.85, "and something is learned: the larger class has 0.63"
