"""How well agreement scores find malicious participants: measured afterwards, from the truth in the record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoflip_secure.records.roc import area_below, area_under_curve, roc
from autoflip_secure.records.run import Detection, RoundRecord

FLAGGED_BELOW = 0.5


def detection(rounds: Sequence[RoundRecord], malicious_clients: Sequence[int]) -> Detection | None:
    """Pooled over (round, participant) pairs; None when the aggregator does not score."""
    pairs = [
        (client, malicious, score)
        for record in rounds
        if record.scores is not None
        for client, malicious, score in zip(record.participants, record.malicious, record.scores, strict=True)
    ]
    if not pairs:
        return None
    clients, malicious, scores = (np.array(column) for column in zip(*pairs, strict=True))
    flagged = scores < FLAGGED_BELOW
    seen = sorted(set(clients.tolist()))
    both = malicious.any() and not malicious.all()
    curve = roc(malicious, -scores, thinned=True) if both else None
    rates = () if curve is None else zip(*curve, strict=True)
    return Detection(
        auc=None if curve is None else area_below(curve),
        true_positive_rate=float(flagged[malicious].mean()) if malicious.any() else None,
        false_positive_rate=float(flagged[~malicious].mean()) if not malicious.all() else None,
        client_auc=area_under_curve(
            [c in malicious_clients for c in seen], [-float(scores[clients == c].mean()) for c in seen]
        ),
        roc=[(round(float(false), 4), round(float(true), 4)) for false, true in rates],
    )
