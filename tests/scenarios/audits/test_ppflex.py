"""PPFLex: what single explorers of FedLEx tell of their classes, and what a secure sum leaves of it."""

from pathlib import Path

import pytest
import torch
from audited_cells import built

from autoflip_secure.errors import InputError
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.local_rules.fedlex import FedLEx
from autoflip_secure.scenarios.audits.labels import label_inference
from autoflip_secure.scenarios.audits.view import Views, in_the_open
from autoflip_secure.scenarios.config.loading import load

PARTIES = """
algorithm: ppflex
secure_sum: {parties: 3, updates: true}
exploration: {method: linear, reveal: sum, epochs: 1}
"""
BASE = """
name: lex
data: {kind: digits, train_samples: 600, test_samples: 100}
model: {kind: mlp, hidden: [16]}
partition: {kind: pathological, classes_per_client: 2}
clients: 10
cohort: 5
training: {optimizer: sgd, lr: 0.1, batch_size: 16, epochs: 2}
seeds: [21]
"""


def test_squared_deviations_tell_the_classes_and_their_sum_does_not(tmp_path: Path) -> None:
    """By the classes whose outputs moved most, counted by hand from d_k²."""
    cell, trainer = built(tmp_path, PARTIES + "rounds: 1\n", BASE)
    assert cell.protocol.local_rule == FedLEx(landscape="energy")
    assert cell.protocol.visibility.explored == cell.protocol.visibility.server == "sums"
    seen = Views()
    watch_cells([in_the_open(cell)], trainer, seen)
    found = {look.view: look for look in label_inference(cell, trainer, seen)}
    assert set(found) == {"plain", "squared", "securely summed"}
    assert found["squared"].chance == pytest.approx(0.2)
    assert found["squared"].accuracy.low > 0.5
    assert found["securely summed"].accuracy.value < 0.4
    clients, sent = seen.explored[cell.key]
    layout, right = cell.problem.layout, []
    outputs = [segment for segment in layout if segment.output]
    for client, row in zip(clients.tolist(), sent, strict=True):
        moved = torch.zeros(10)
        for segment in outputs:
            squares = (row[segment.slice] ** 2).view(10, -1)
            moved += squares.sum(1) / squares.sum()
        owned = set(cell.problem.y_train[cell.problem.clients[client]].tolist())
        right.append(len(owned & set(moved.argsort(descending=True)[: len(owned)].tolist())) / len(owned))
    assert found["squared"].accuracy.value == pytest.approx(sum(right) / len(right))


def test_without_parties_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    for more in ("", "secure_sum: {parties: 3}\nexploration: {method: linear}\n"):
        path.write_text(f"{BASE}algorithm: ppflex\n{more}")
        with pytest.raises(InputError, match=r"algorithm = ppflex: .*pass through parties; set secure_sum: \{parties"):
            load(str(path))
    path.write_text(BASE + PARTIES.replace("linear, reveal: sum", "robust"))
    with pytest.raises(InputError, match=r"exploration\.method = robust: needs every explorer's deviation"):
        load(str(path))
