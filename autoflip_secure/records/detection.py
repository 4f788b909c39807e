"""How well agreement scores find malicious participants: measured afterwards, from the truth in the record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoflip_secure.records.run import Detection, RoundRecord

FLAGGED_BELOW = 0.5


def area_under_curve(malicious: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Probability that a malicious client scores lower than an honest one, ties counting half; None without both."""
    from sklearn.metrics import roc_auc_score

    if len(set(malicious)) < 2:
        return None
    return float(roc_auc_score(np.asarray(malicious), -np.asarray(scores, dtype=float)))


def detection(rounds: Sequence[RoundRecord], malicious_clients: Sequence[int]) -> Detection | None:
    """Pooled over (round, participant) pairs; None when the aggregator does not score."""
    from sklearn.metrics import roc_curve

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
    roc: list[tuple[float, float]] = []
    if malicious.any() and not malicious.all():
        false_positive, true_positive, _ = roc_curve(malicious, -scores)
        roc = [(round(float(f), 4), round(float(t), 4)) for f, t in zip(false_positive, true_positive, strict=True)]
    return Detection(
        auc=area_under_curve(malicious.tolist(), scores.tolist()),
        true_positive_rate=float(flagged[malicious].mean()) if malicious.any() else None,
        false_positive_rate=float(flagged[~malicious].mean()) if not malicious.all() else None,
        client_auc=area_under_curve(
            [c in malicious_clients for c in seen], [float(scores[clients == c].mean()) for c in seen]
        ),
        roc=roc,
    )
