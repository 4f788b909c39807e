"""What server and clients agree on: a scenario, as `autoflip-secure sweep` would run it, with what a run may change."""

from flwr.app import Context

from autoflip_secure.flower import Federation

SCENARIO = {
    "data": "digits",
    "partition": {"kind": "dirichlet", "alpha": 0.5},
    "model": "mlp",
    "training": {"lr": 0.2, "batch_size": 16, "epochs": 2},
    "exploration": {"epochs": 3},
}


def federation(context: Context) -> Federation:
    """The federation of this run."""
    said = context.run_config
    names = ("algorithm", "clients", "cohort", "rounds")
    return Federation.of(SCENARIO, seed=int(said["seed"]), **{name: said[name] for name in names})
