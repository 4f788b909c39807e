"""One round of any aggregator on made-up rows."""

from typing import Any

import torch
from shared_rules import view
from torch import Tensor, nn

from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, Guidance, RoundView
from autoflip_secure.models.layout import Layout

LAYOUT = Layout.of(nn.Linear(6, 3))
P = LAYOUT.size
WEIGHTS = torch.randn(P, generator=torch.Generator().manual_seed(50))


def cohort(n: int, seed: int) -> Tensor:
    """Rows that have something in common, as updates do."""
    return 0.5 + torch.randn(n, P, generator=torch.Generator().manual_seed(seed))


def shown(updates: Tensor, clients: Tensor | None = None) -> RoundView:
    plain = view(updates, of=LAYOUT)
    guidance = Guidance(torch.ones(P), torch.ones(P))
    here = plain.clients if clients is None else clients
    return RoundView(**{**vars(plain), "guidance": guidance, "weights": WEIGHTS, "clients": here})


def decided(aggregator: Aggregator, updates: Tensor, clients: Tensor | None = None) -> Aggregate:
    n = len(updates)
    ones, explored = torch.ones(n), 0.3 * WEIGHTS + cohort(n, 99)
    exploration = Exploration(torch.arange(n), ones, explored, explored.square().mean(0), ones, ones.bool())
    return aggregator.aggregate(aggregator.start(LAYOUT, WEIGHTS, n, exploration), shown(updates, clients))


def near(found: Tensor, expected: Tensor, **options: Any) -> None:
    torch.testing.assert_close(found, expected, **{"atol": 1e-4, "rtol": 1e-3, **options})
