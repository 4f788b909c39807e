"""Synthetic records: shaped like those of a real sweep, made in milliseconds, the same every time.

The numbers are invented: accuracies follow a logistic learning curve whose ceiling falls with the attack, by an amount
that depends on the algorithm, plus noise that is shared by all algorithms of one seed (so that pairing helps).
"""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autoflip_secure.records.run import RunRecord

CLIENTS, COHORT = 20, 5
IID = {"kind": "iid"}
DIRICHLET = {"kind": "dirichlet", "alpha": 0.3}
TWO_CLASSES = {"kind": "pathological", "classes_per_client": 2}
CLEAN = {"kind": "none"}

# pruner kind, aggregator kind, share of an attack's harm that gets through, cost of pruning, live share of the weights
ALGORITHMS: dict[str, tuple[str, str, float, float, float]] = {
    "fedavg": ("none", "mean", 1.0, 0.0, 1.0),
    "autoflip": ("threshold", "agreement", 0.12, 0.008, 0.31),
    "autoflip_plus": ("budget", "radial", 0.06, 0.003, 0.34),
    "agreement_only": ("none", "agreement", 0.12, 0.0, 1.0),
    "guidance_only": ("threshold", "mean", 0.9, 0.008, 0.31),
    "random_weights": ("random_weights", "mean", 1.0, 0.02, 0.31),
}
HARM = {"by_group": 0.2, "iid": 0.16, "dirichlet": 0.25, "pathological": 0.45}
CEILING = {"by_group": 0.95, "iid": 0.965, "dirichlet": 0.94, "pathological": 0.89}


def noise(sigma: float, scope: float = 0.2) -> dict[str, Any]:
    return {"kind": "gaussian_noise", "sigma": sigma, "relative": False, **_scope(scope)}


def flip(share: float, scope: float = 0.2) -> dict[str, Any]:
    return {"kind": "label_flip", "share": share, "to": "uniform", **_scope(scope)}


def _scope(scope: float) -> dict[str, Any]:
    return {"scope": scope, "clients": None, "window": {"first": 1, "last": None}, "explorers": True}


ATTACKS = [CLEAN, noise(0.1), noise(0.5), noise(1.0), noise(0.5, 0.1), noise(0.5, 0.4), flip(0.3)]


def make_record(
    algorithm: str,
    partition: dict[str, Any],
    attack: dict[str, Any],
    seed: int,
    *,
    rounds: int = 40,
    threshold: float = 0.3,
    axes: dict[str, Any] | None = None,
    label: str | None = None,
    **config: Any,
) -> RunRecord:
    """One invented cell. ``config`` overrides top-level keys of the cell's configuration."""
    pruner, aggregator, leak, cost, density = ALGORITHMS[algorithm]
    density = 1.0 if density == 1.0 else density * (0.3 / threshold) ** 0.5 if threshold else 1.0
    bad_share = 0.0 if attack["kind"] == "none" else attack["scope"]
    strength = {"gaussian_noise": lambda: 1 - math.exp(-2.5 * attack["sigma"]), "label_flip": lambda: attack["share"]}
    harm = HARM[partition["kind"]] * strength.get(attack["kind"], lambda: 0.0)() * min(1.0, bad_share / 0.2)
    settings = {
        "name": "synthetic",
        "data": {"kind": "digits"},
        "partition": partition,
        "model": {"kind": "mlp", "hidden": [64, 128, 64]},
        "clients": CLIENTS,
        "cohort": COHORT,
        "rounds": rounds,
        "training": {"optimizer": "sgd", "lr": 0.1, "batch_size": 16, "epochs": 5},
        "exploration": {"explorers": 10, "epochs": 5},
        "guidance": {"normalisation": "sqrt_q99"},
        "algorithm": {
            "name": algorithm,
            "pruner": {"kind": pruner} | ({"threshold": threshold} if pruner in ("threshold", "budget") else {}),
            "aggregator": {"kind": aggregator},
        },
        "attack": attack,
        "seed": seed,
        **config,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    world = np.random.default_rng(
        [seed, int(hashlib.sha256(json.dumps([partition, attack]).encode()).hexdigest()[:8], 16)]
    )
    own = np.random.default_rng(int(digest[:12], 16))
    malicious = sorted(world.permutation(CLIENTS)[: round(bad_share * CLIENTS)].tolist())
    wobble = world.normal(0, 0.006, rounds)
    ceiling = (
        CEILING[partition["kind"]]
        - cost * (threshold / 0.3) ** 2
        - harm * leak
        + world.normal(0, 0.008)
        + own.normal(0, 0.003)
    )
    scoring = aggregator != "mean"
    separation = {"none": 0.0, "gaussian_noise": 0.85, "label_flip": 0.45, "backdoor": 0.0}[attack["kind"]]
    round_list, pairs = [], []
    for t in range(1, rounds + 1):
        cohort = sorted(world.choice(CLIENTS, COHORT, replace=False).tolist())
        truth = [k in malicious for k in cohort]
        scores = [float(np.clip(own.normal(0.95 - separation * b, 0.12), 0, 1)) for b in truth] if scoring else None
        pairs += list(zip(scores or [], truth, strict=False))
        weights = np.array(scores if scores is not None else [1.0] * COHORT)
        step = 0.02 / t**0.5 * (1 + (8 * harm * leak) * sum(truth))
        accuracy = ceiling / (1 + math.exp(-(t - 3) / 3)) + wobble[t - 1] - 0.02 * leak * harm * sum(truth)
        sent = int(40_000 * density) * COHORT + 200
        round_list.append(
            {
                "round": t,
                "participants": cohort,
                "malicious": truth,
                "scores": scores,
                "trust": (weights / weights.sum()).tolist() if weights.sum() else [0.0] * COHORT,
                "rejected": [],
                "train_loss": 2.3 * math.exp(-t / 8) + 0.05,
                "test_accuracy": min(1.0, max(0.0, accuracy)) if t % 2 == 0 or t in (1, rounds) else None,
                "test_loss": 2.3 * math.exp(-t / 8) + 0.1 + harm * leak,
                "density": density,
                "update_variance": step**2 * float(own.uniform(0.8, 1.2)),
                "update_variance_all": density * step**2,
                "client_variance": 3 * step**2,
                "step_norm": step * 90,
                "bytes": _bytes(sent, density),
                "flops": _flops(2_000_000_000, density),
            }
        )
    edges = np.linspace(0, 1, 26)
    counts = np.maximum(1, (9000 * np.exp(-9 * edges[:-1]))).astype(int)
    final = (counts * np.where(edges[:-1] < threshold, 0.3, 1.0)).astype(int)
    sample = own.beta(0.6, 3, size=(300, 1)) * np.array([1.0, 1.0])
    sample[:, 1] = np.clip(sample[:, 0] * own.uniform(0.5, 1.4, 300), 0, 1)
    explores = pruner in ("threshold", "budget")
    totals = _bytes(sum(r["bytes"]["uplink_values"] for r in round_list), density)
    return RunRecord.model_validate(
        {
            "cell": digest[:16],
            "config": settings,
            "axes": axes if axes is not None else {"algorithm": algorithm, "partition": partition, "attack": attack},
            "algorithm": label or algorithm,
            "seed": seed,
            "versions": {"python": "3.11.2", "torch": "2.13.0", "autoflip-secure": "0.1.0"},
            "pipeline": [
                "cohort",
                "local data attack",
                "local training",
                "update attack",
                "mask",
                "aggregate",
                "evaluate",
            ],
            "parameters": 17_226,
            "malicious_clients": malicious,
            "client_samples": [72] * CLIENTS,
            "trainer": {"kind": "stacked", "reason": "17226 parameters <= 1000000", "device": "cpu"},
            "exploration": {
                "explorers": list(range(10)),
                "malicious": [k in malicious for k in range(10)],
                "agreement": [0.9] * 10,
                "kept": [k not in malicious for k in range(10)],
                "losses": [[2.0, 1.0]] * 10,
                "bytes": _bytes(680_000, 1.0),
                "flops": 4_000_000_000,
            }
            if explores
            else None,
            "guidance": {
                "normalisation": "sqrt_q99",
                "threshold": threshold,
                "bin_edges": edges.tolist(),
                "initial_counts": counts.tolist(),
                "final_counts": final.tolist(),
                "sample": [(float(a), float(b), bool(a >= threshold)) for a, b in sample],
            }
            if explores
            else None,
            "rounds": round_list,
            "layers": [
                _layer(f"{i}.weight", a, b, i != 6, density * (1 + 0.15 * (i - 2) / 2))
                for i, a, b in [(0, 64, 64), (2, 128, 64), (4, 64, 128), (6, 10, 64)]
            ],
            "costs": {
                "bytes": totals,
                "flops": _flops(rounds * 2_000_000_000, density),
                "model_flops": _flops(34_000, density),
                "compaction": "ok",
            },
            "detection": _detection(pairs) if scoring else None,
            "final_accuracy": next(r["test_accuracy"] for r in reversed(round_list) if r["test_accuracy"] is not None),
            "final_loss": 0.4,
            "events": ["round 3: client 7 sent values that are not finite and was left out"]
            if malicious and seed == 1
            else [],
            "timing": {"seconds": 0.5},
        }
    )


def _bytes(values: int, density: float) -> dict[str, int]:
    bits = 0 if density == 1 else values // 25
    return {
        "uplink_values": values,
        "uplink_bitmask": values + bits,
        "downlink_values": values,
        "downlink_bitmask": values + bits,
    }


def _flops(dense: int, density: float) -> dict[str, int | None]:
    return {"dense": dense, "sparse": int(dense * density), "compacted": int(dense * (1 - (1 - density) / 2))}


def _layer(name: str, units: int, inputs: int, hidden: bool, density: float) -> dict[str, Any]:
    density = min(1.0, density) if hidden and density < 0.8 else 1.0
    return {
        "name": name,
        "shape": [units, inputs],
        "hidden": hidden,
        "weights": units * inputs,
        "live_weights": int(units * inputs * density),
        "units": units,
        "live_units": int(units * (1 + density) / 2),
    }


def _detection(pairs: list[tuple[float, bool]]) -> dict[str, Any]:
    malicious = np.array([s for s, b in pairs if b])
    good = np.array([s for s, b in pairs if not b])
    both = bool(malicious.size and good.size)
    auc = float((malicious[:, None] < good).mean() + 0.5 * (malicious[:, None] == good).mean()) if both else None
    return {
        "auc": auc,
        "true_positive_rate": float((malicious < 0.5).mean()) if malicious.size else None,
        "false_positive_rate": float((good < 0.5).mean()) if good.size else None,
        "client_auc": auc,
        "roc": [(0.0, 0.0), (1.0, 1.0)],
    }


def make_sweep(
    algorithms: Sequence[str] = tuple(ALGORITHMS),
    partitions: Sequence[dict[str, Any]] = (IID, DIRICHLET, TWO_CLASSES),
    attacks: Sequence[dict[str, Any]] = tuple(ATTACKS),
    seeds: int = 5,
    **options: Any,
) -> list[RunRecord]:
    """The full product, in the order in which a sweep would leave it."""
    return [
        make_record(name, partition, attack, seed, **options)
        for partition in partitions
        for attack in attacks
        for name in algorithms
        for seed in range(seeds)
    ]
