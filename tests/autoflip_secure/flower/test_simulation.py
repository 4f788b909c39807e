"""In Flower's own simulation, on Ray, with processes of their own for the clients: rounds as the engine's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

WHY = "Flower is not among the test tools, for it keeps typer, rich and protobuf back: pip install '.[flower]'"
pytest.importorskip("flwr", reason=WHY)
pytest.importorskip("ray", reason="Flower simulates on Ray: pip install 'flwr[simulation]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

from both_ways import by_engine  # noqa: E402
from flwr.app import Context, Message  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402
from flwr.simulation import run_simulation  # noqa: E402
from small import agreed  # noqa: E402

from autoflip_secure.flower import AutoflipStrategy, Federation, client_app, messages  # noqa: E402

ROOT = Path(__file__).parents[3]
FEDERATIONS = {
    "mean": agreed(algorithm="fedavg"),
    "median": agreed(algorithm="median"),
    "trimmed mean": agreed(algorithm="trimmed_mean"),
    "geometric median": agreed(algorithm="geometric_median"),
    "AutoFLIP, pruning": agreed(algorithm="autoflip", rounds=4),
    "FedProx": agreed(algorithm="fedprox"),
    "Krum, under label flips": agreed(algorithm="krum", attack={"kind": "label_flip", "scope": 0.3}),
}


def _one_app_for_all(federations: list[Federation]) -> ClientApp:
    """A simulation has one app; a message says of which federation it is."""
    apps = {federation.digest: client_app(federation) for federation in federations}
    found = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        return apps[messages.federation_of(message.content)](message, context)

    found.query("meet")(answer)
    found.train("explore")(answer)
    found.train("round")(answer)
    return found


def test_rounds_in_flowers_simulation_are_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(__file__).parent)]))  # of Ray's workers
    found = dict[str, AutoflipStrategy]()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        for name, federation in FEDERATIONS.items():
            strategy = AutoflipStrategy(federation)
            strategy.start(grid, strategy.initial_arrays(), num_rounds=federation.rounds)
            found[name] = strategy

    resources: Any = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {"address": "local", "num_cpus": 2},
    }
    run_simulation(server, _one_app_for_all([*FEDERATIONS.values()]), num_supernodes=7, backend_config=resources)
    assert set(found) == set(FEDERATIONS)
    for name, federation in FEDERATIONS.items():
        record, kept = by_engine(federation)
        strategy = found[name]
        torch.testing.assert_close(
            strategy.weights, kept.weights[-1], rtol=0, atol=1e-5, msg=lambda s, n=name: f"{n}: {s}"
        )
        assert torch.equal(strategy.mask, kept.masks[-1]), name
        assert [one.participants for one in strategy.rounds] == [one.participants for one in record.rounds]
        assert [one.bytes for one in strategy.rounds] == [one.bytes for one in record.rounds]
        assert not strategy.events, name
    assert float(found["AutoFLIP, pruning"].mask.float().mean()) < 0.9, "something is pruned"
