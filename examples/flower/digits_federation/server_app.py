"""What the server runs: the engine's server as a strategy, and a test of every model on the digits that nobody owns."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from autoflip_secure.flower import AutoflipStrategy
from digits_federation.task import federation

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run."""
    agreed = federation(context)
    strategy = AutoflipStrategy(agreed)
    strategy.start(grid, strategy.initial_arrays(), num_rounds=agreed.rounds, timeout=600)
    for record in strategy.rounds:
        print(
            f"round {record.round}: clients {record.participants}, density {record.density:.3f}, "
            f"{record.bytes.uplink_values:,} bytes up, accuracy {record.test_accuracy:.4f}"
        )
