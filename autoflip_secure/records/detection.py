"""How well agreement scores find bad participants: measured afterwards, from the truth in the record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoflip_secure.records.run import Detection, RoundRecord

FLAGGED_BELOW = 0.5


def area_under_curve(bad: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Probability that a bad one scores lower than a good one, ties counting half; None when there is one kind only."""
    from sklearn.metrics import roc_auc_score

    if len(set(bad)) < 2:
        return None
    return float(roc_auc_score(np.asarray(bad), -np.asarray(scores, dtype=float)))


def detection(rounds: Sequence[RoundRecord], bad_clients: Sequence[int]) -> Detection | None:
    """Pooled over (round, participant) pairs; None when the aggregator does not score."""
    from sklearn.metrics import roc_curve

    pairs = [
        (client, bad, score)
        for record in rounds
        if record.scores is not None
        for client, bad, score in zip(record.participants, record.bad, record.scores, strict=True)
    ]
    if not pairs:
        return None
    clients, bad, scores = (np.array(column) for column in zip(*pairs, strict=True))
    flagged = scores < FLAGGED_BELOW
    seen = sorted(set(clients.tolist()))
    roc: list[tuple[float, float]] = []
    if bad.any() and not bad.all():
        false_positive, true_positive, _ = roc_curve(bad, -scores)
        roc = [(round(float(f), 4), round(float(t), 4)) for f, t in zip(false_positive, true_positive, strict=True)]
    return Detection(
        auc=area_under_curve(bad.tolist(), scores.tolist()),
        true_positive_rate=float(flagged[bad].mean()) if bad.any() else None,
        false_positive_rate=float(flagged[~bad].mean()) if not bad.all() else None,
        client_auc=area_under_curve(
            [c in bad_clients for c in seen], [float(scores[clients == c].mean()) for c in seen]
        ),
        roc=roc,
    )
