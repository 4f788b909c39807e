"""Tidy results: one row per cell and round, for other figures (CSV and Parquet).

One row per cell: :mod:`autoflip_secure.reports.tables.cells_frame`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from autoflip_secure.models.amounts import Bytes
from autoflip_secure.records.configs import leaves
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.proven import Bound, bounds, no_guarantee
from autoflip_secure.records.robustness import has_majority
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.records.stability import Stability
from autoflip_secure.reports.study.labels import attack_label, clean_text, partition_label
from autoflip_secure.reports.study.privacy import protection
from autoflip_secure.reports.study.run_robustness import RunRobustness, run_robustness
from autoflip_secure.reports.study.threat_cards import cards_of

PART = 256  # cells in memory at once, as rows of a table of rounds
_ATTACK = ("sigma", "share")
_NAMES = ("cell", "algorithm", "partition", "attack", "threat_card", "privacy", "outcome", "operations")
_WORDS = ("guarantee.", "neighbours.")
_COUNTS = (
    "seed", "round", "participants", "malicious_participants", "rejected", "parameters", "bytes.", "flops.",
    "exploration.", "recovery_rounds", "majority_rounds", "durability_rounds",
    "rounds_after_window",
)  # fmt: skip
_FLAGS = ("recovered", "malicious_majority")


def tidy(records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> pd.DataFrame:
    """One row per cell and round, in the order of ``records``.

    ``docs/results.md`` describes every column. Accuracies are shares in [0, 1], bytes and FLOPs are of that round alone
    (exploration excluded); what is of the whole run repeats on every row of its cell. What was not measured is empty.
    """
    return pd.concat(tidy_parts(records, described(records, outcome)), ignore_index=True)


def tidy_parts(records: Sequence[RunRecord], cells: Sequence[dict[str, object]]) -> Iterator[pd.DataFrame]:
    """:func:`tidy` in parts of :data:`PART` cells, one after the other: all have the columns and types of the whole.

    ``cells``: what :func:`described` says of ``records``.
    """
    personal = any(record.personal for record in records)
    backdoors = any(record.backdoor for record in records)
    stable = any(entry.stability for record in records for entry in record.rounds)
    shown = [known for record, known in zip(records, cells, strict=True) if record.rounds]
    axes = [name for name in (shown[0] if shown else {}) if name.startswith("axis.")]
    kinds = {name: _kind(name, pd.Series([known[name] for known in shown], dtype=object)) for name in axes}
    for start in range(0, len(records), PART):
        rows = [
            known
            | _round(entry)
            | (_personal(entry) if personal else {})
            | ({"attack_success": entry.attack_success} if backdoors else {})
            | (_stability(entry) if stable else {})
            for record, known in zip(records[start : start + PART], cells[start : start + PART], strict=True)
            for entry in record.rounds
        ]
        if rows or not shown:
            yield typed(rows, kinds)


def described(records: Sequence[RunRecord], outcome: OutcomeRule) -> list[dict[str, object]]:
    """What is said of each cell as a whole, in every table: which one it is, what it came to, what is proven of it."""
    paths = list(dict.fromkeys(path for r in records for path in leaves(r.axes)))
    observers = list(dict.fromkeys(g.observer for r in records if r.privacy for g in r.privacy.guarantees))
    gaps = any(uncounted(record) for record in records)
    personal = any(record.personal for record in records)
    known, backdoors = run_robustness(records), any(record.backdoor for record in records)
    rows = []
    for record in records:
        axes = leaves(record.axes)
        attack = record.config.get("attack") or {"kind": "none"}
        rows.append(
            {
                "cell": record.cell,
                "algorithm": clean_text(record.algorithm),
                "seed": record.seed,
                **{f"axis.{path}": _text(axes.get(path)) for path in paths},
                "partition": partition_label(record.config.get("partition") or {}),
                "attack": attack_label(attack),
                "threat_card": " + ".join(card.terms for card in cards_of(record)),
                **{f"attack.{key}": attack.get(key) for key in _ATTACK},
                "attack.scope": _scope(attack, record.config.get("clients")),
                **(_guarantees(record, observers) if observers else {}),
                "outcome": str(outcome),
                "outcome_accuracy": outcome.accuracy(record),
                **(_between_clients(record, outcome) if personal else {}),
                **({"operations": uncounted(record)} if gaps else {}),
                **_exploration(record),
                **_detection(record),
                **_robustness(known[record.cell]),
                **(_backdoor(record, known[record.cell], outcome) if backdoors else {}),
            }
        )
    return rows


def _scope(attack: Mapping[str, Any], clients: Any) -> float | None:
    """Share of the clients that are malicious: as the attack says, or as many as it names."""
    chosen = attack.get("clients")
    if isinstance(chosen, list) and isinstance(clients, int) and clients:
        return len(chosen) / clients
    return attack.get("scope")


def _between_clients(record: RunRecord, outcome: OutcomeRule) -> dict[str, object]:
    """Of the clients' own models; empty where the global model was tested."""
    worst, spread = outcome.between_clients(record) or (None, None)
    return {"outcome_worst_client": worst, "outcome_client_spread": spread}


def typed(rows: Sequence[Mapping[str, object]], kinds: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Rows of plain values as a frame whose columns have types: text, whole numbers with gaps, numbers.

    Args:
        rows: each a mapping with the same keys.
        kinds: types of columns that these rows alone do not tell.
    """
    frame, known = pd.DataFrame(rows, dtype=object), kinds or {}  # whole numbers with gaps stay whole
    return frame.astype({name: known.get(str(name)) or _kind(str(name), frame[name]) for name in frame.columns})


def uncounted(record: RunRecord) -> str | None:
    """Why a run has no operations; None: it has."""
    return clean_text(record.costs.compaction) if record.costs.flops.dense is None else None


def _exploration(record: RunRecord) -> dict[str, object]:
    """What phase 1 cost, all explorers together."""
    spent = record.exploration
    counts = {key: 0 if spent is None else getattr(spent.bytes, key) for key in Bytes.model_fields}
    return {
        **{f"exploration.bytes.{key}": value for key, value in counts.items()},
        "exploration.flops": 0 if spent is None else spent.flops,
    }


def _detection(record: RunRecord) -> dict[str, object]:
    """Agreement scores as a detector of malicious participants, over the whole run."""
    found = record.detection
    names = ("auc", "true_positive_rate", "false_positive_rate", "client_auc")
    return {f"detection.{name}": None if found is None else getattr(found, name) for name in names}


def _robustness(run: RunRobustness) -> dict[str, object]:
    """What a run came to beside its outcome, and beside its clean twin."""
    late, back, majority = run.late, run.recovery, run.majority
    return {
        "final_accuracy": run.final,
        "last10_accuracy": None if late is None else late.mean,
        "last10_std": None if late is None else late.spread,
        "worst_class_accuracy": run.worst_class,
        "attacked_class_accuracy": run.attacked_class,
        "attacked_class_clean": run.attacked_class_clean,
        "trust_amplification": run.amplification,
        "recovered": None if back is None else back.rounds is not None,
        "recovery_rounds": None if back is None else back.rounds,
        "mask_overlap": run.overlap,
        "majority_rounds": None if majority is None else majority.seen,
        "expected_majority_rounds": None if majority is None else majority.expected,
    }


def _backdoor(record: RunRecord, run: RunRobustness, outcome: OutcomeRule) -> dict[str, object]:
    """How well a backdoor works, how long, and what the mask leaves of its trigger."""
    lasted, kept = run.durability, run.survival
    return {
        "outcome_attack_success": outcome.attack_success(record),
        "durability_rounds": None if lasted is None else lasted.rounds,
        "rounds_after_window": None if lasted is None else lasted.watched,
        "trigger_neurons_kept": None if kept is None else kept.kept,
        "trigger_weights_kept": None if kept is None else kept.kept_reading,
        "trigger_layer_kept": None if kept is None else kept.kept_overall,
    }


def _guarantees(record: RunRecord, observers: Sequence[str]) -> dict[str, object]:
    """What a run asked for, and what is proven of it against each observer."""
    asked = record.config.get("privacy")
    found: dict[str, object] = {"privacy": protection(asked, no_guarantee([record.privacy]))}
    proven: dict[str, Bound] = {bound.observer: bound for bound in bounds(record.privacy)}
    for observer in observers:
        bound, name = proven.get(observer), observer.replace(" ", "_")
        found |= {
            f"guarantee.{name}": "no" if bound is None else "yes",
            f"epsilon.{name}": None if bound is None else bound.epsilon,
            f"delta.{name}": None if bound is None else bound.delta,
            f"neighbours.{name}": None if bound is None else bound.relation,
        }
    return found


def _kind(name: str, column: pd.Series) -> str:
    """The type of a column: known by its name, for an axis by what it holds; mixed values become text."""
    if name in _NAMES or name.startswith(_WORDS):
        return "string"
    if name.startswith(_COUNTS):
        return "Int64"
    if not name.startswith("axis."):
        return "boolean" if name in _FLAGS else "float64"
    found = {type(value) for value in column if not pd.isna(value)}
    if found == {bool}:
        return "boolean"
    if found and found <= {int, float}:
        return "Int64" if found == {int} else "float64"
    return "string"


def _text(value: object) -> object:
    return clean_text(value) if isinstance(value, str) else value


def _round(entry: RoundRecord) -> dict[str, object]:
    malicious = np.array(entry.malicious, dtype=bool)
    scores = np.array(entry.scores, dtype=float) if entry.scores is not None else None
    trust = np.array(entry.trust, dtype=float)
    return {
        "round": entry.round,
        "participants": len(entry.participants),
        "malicious_participants": int(malicious.sum()),
        "malicious_majority": has_majority(entry),
        "rejected": len(entry.rejected),
        "score_of_honest": _mean(scores, ~malicious),
        "score_of_malicious": _mean(scores, malicious),
        "trust_of_malicious": float(trust[malicious].sum()),
        "train_loss": entry.train_loss,
        "test_accuracy": entry.test_accuracy,
        "test_loss": entry.test_loss,
        "density": entry.density,
        "update_variance": entry.update_variance,
        "update_variance_all": entry.update_variance_all,
        "client_variance": entry.client_variance,
        "step_norm": entry.step_norm,
        **{f"bytes.{key}": value for key, value in entry.bytes.model_dump().items()},
        **{f"flops.{key}": value for key, value in entry.flops.model_dump().items()},
    }


def _stability(entry: RoundRecord) -> dict[str, object]:
    found = entry.stability
    return {f"stability.{key}": None if found is None else getattr(found, key) for key in Stability.model_fields}


def _personal(entry: RoundRecord) -> dict[str, object]:
    """Beside the mean over clients, which is the accuracy of the round."""
    found = entry.personal
    return {
        "worst_client_accuracy": None if found is None else found.worst,
        "client_spread": None if found is None else found.spread,
        "global_accuracy": entry.global_accuracy,
    }


def _mean(scores: np.ndarray | None, who: np.ndarray) -> float | None:
    return float(scores[who].mean()) if scores is not None and who.any() else None
