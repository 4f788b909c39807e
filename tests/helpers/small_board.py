"""A board that is run in a second: the same in everything but its size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.files.checksums import with_checksum

NAME = "board-small-1"
TEXT = f"""
name: {NAME}
question: Which defence keeps the most?
data: {{kind: digits, train_samples: 200, test_samples: 80}}
model: {{kind: mlp, hidden: [8]}}
clients: 6
cohort: 5
rounds: 2
training: {{lr: 0.1, batch_size: 16, epochs: 1}}
seeds: [10, 11]
tune: {{axes: {{training.lr: [0.1, 0.4]}}, seeds: [0]}}
suite: {{name: adaptive, attacks: [sign_flip], scope: 0.2}}
sweep:
  product:
    partition: [iid, {{kind: pathological, classes_per_client: 2}}]
    algorithm: [fedavg, median]
"""
STRANGERS = '''
"""A defence that is no part of the package."""

from typing import Annotated, ClassVar

from pydantic import Field

from autoflip_secure.interfaces import Aggregate, Aggregator


class Halved(Aggregator):
    """Half of the plain mean."""

    known_by: ClassVar = ({"kind": "ipm", "epsilon": 2.0},)
    share: Annotated[float, Field(gt=0, le=1, description="of the mean")] = 0.5

    def aggregate(self, state, view):
        trust = view.samples / view.samples.sum()
        return Aggregate(self.share * (trust @ view.updates), trust, None, state)
'''
BOARD = ("leaderboard", "--board", "board.yaml")
MINE = '[{name: halved, pruner: none, aggregator: {kind: "strangers:Halved"}}]'


def write(folder: Path) -> Path:
    """The board's file, and beside it the module of a stranger."""
    (folder / "strangers.py").write_text(STRANGERS, encoding="utf-8")
    path = folder / "board.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def invoke(*arguments: object, exits: int = 0) -> Result:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == exits, f"{done.output}\n{done.stderr}\n{done.exception}"
    assert "Traceback" not in done.output + done.stderr
    return done


def tampered(folder: Path, path: Path, change: Callable[[dict[str, Any]], object], name: str = "halved") -> Path:
    """An entry that somebody changed, its checksum too."""
    document = json.loads((folder / "entries" / f"{name}.json").read_text())
    del document["checksum"]
    change(document)
    path.write_text(json.dumps(with_checksum(document)))
    return path
