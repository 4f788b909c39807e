"""Every algorithm by name: a pruner, an aggregator and a local rule that belong together, with their options."""

from __future__ import annotations

from autoflip_secure.algorithm.agreement_statistics import STATISTICS
from autoflip_secure.scenarios.config.mixes import Algorithm
from autoflip_secure.scenarios.config.mixes import mix as _mix

ALGORITHMS: dict[str, Algorithm] = {
    "fedavg": _mix("none", "mean", "Federated averaging: no pruning, every client counts by its samples."),
    "autoflip": _mix(
        "threshold", "agreement", "AutoFLIP as this project reads the paper: guidance mask, agreement scores."
    ),
    "autoflip_plus": _mix("budget", "radial", "Ours: whole units first within budgets, radial agreement."),
    "autoflip_static": _mix(
        "threshold", "agreement", "AutoFLIP whose mask is cut once and never refined.", prune={"refine_every": None}
    ),
    "autoflip_held": _mix(
        "budget",
        "filtered_agreement",
        "Ours, against attackers who know it: last updates of all clients, agreement scores, CAF of what is accepted.",
        before=[{"kind": "last_rows", "momentum": 0.0}],
    ),
    "held_only": _mix(
        "none",
        "filtered_agreement",
        "The same without pruning.",
        before=[{"kind": "last_rows", "momentum": 0.0}],
    ),
    "agreement_only": _mix("none", "agreement", "Agreement scores without pruning."),
    "radial_only": _mix("none", "radial", "Radial agreement without pruning."),
    "guidance_only": _mix("threshold", "mean", "Guidance mask, plain mean."),
    "budget_only": _mix("budget", "mean", "Budgeted mask, plain mean."),
    "threshold_radial": _mix("threshold", "radial", "Guidance mask, radial agreement."),
    "budget_agreement": _mix("budget", "agreement", "Budgeted mask, agreement scores."),
    "random_weights": _mix(
        "random_weights", "mean", "Random weights pruned, as many per tensor as the guidance mask; mean."
    ),
    "random_units": _mix("random_units", "mean", "Random units pruned, as many per layer as the budgeted mask; mean."),
    "taylor": _mix("taylor", "mean", "Units of least Taylor importance pruned, as clients report it; mean."),
    "fedsparsify": _mix(
        "fedsparsify", "mean", "FedSparsify: the server cuts the smallest weights, more in every round; mean."
    ),
    "snip": _mix("snip", "mean", "SNIP: one cut before training, by gradients of all clients; mean."),
    "fedtiny": _mix(
        "fedtiny",
        "mean",
        "FedTiny: the server swaps small weights for those of large gradients, at equal density; mean.",
    ),
    "rigl": _mix(
        "fedtiny",
        "mean",
        "RigL, federated: the same with RigL's timetable, and what has just gone may return; mean.",
        prune={"share": 0.3, "until": 0.75, "returning": True},
    ),
    "fedrts": _mix("fedrts", "mean", "FedRTS: masks drawn from posteriors that clients' votes feed; mean."),
    "erk": _mix("erk", "mean", "Random weights pruned before training, dense by ERK; mean. A control."),
    "magnitude": _mix("magnitude", "mean", "The smallest weights pruned once; mean. A control."),
    "prunefl": _mix(
        "prunefl",
        "mean",
        "PruneFL: one client prunes alone, then the mask follows importances that clients sum up; mean.",
    ),
    "eflprune": _mix(
        "eflprune",
        "mean",
        "EFLPrune, our reading: each round trains the best units, the others keep their weights; mean.",
    ),
    **{
        f"score_{name}": _mix(
            "none", "agreement", f"No pruning; agreement score of one statistic: {name}.", statistics=[name]
        )
        for name in STATISTICS
    },
    "lotteryfl": _mix(
        "lottery",
        "mean",
        "LotteryFL: every client prunes a mask of its own and rewinds; mean over those who hold.",
        weighting="equal",
    ),
    "subfedavg": _mix(
        "subfedavg",
        "mean",
        "Sub-FedAvg: every client prunes a mask of its own while it trains; mean over those who hold.",
        weighting="equal",
    ),
    "fedspa": _mix(
        "own_erk",
        "mean",
        "FedSpa: every client moves a sparse mask of its own by magnitude and gradient; mean over those who hold.",
        local="regrow",
        weighting="equal",
    ),
    "feddst": _mix(
        "erk_of_all",
        "mean",
        "FedDST: clients move a sparse mask that all share; the server makes one of theirs by magnitude.",
        local="regrow",
        rule={"share": 0.01, "every": 15, "until": 0.5},
    ),
    "fedsgc": _mix(
        "erk_of_all",
        "mean",
        "FedSGC: the same, and the direction of the server's last step says what goes and comes first.",
        local="signed_regrow",
    ),
    "fedpm": _mix(
        "fedpm",
        "mean",
        "FedPM: clients train the probabilities of a mask over frozen weights and send one bit a weight.",
        weighting="equal",
    ),
    "fedmask": _mix(
        "fedmask",
        "mean",
        "FedMask (SenSys 2021, our reading): a mask per client over frozen weights, averaged where they overlap.",
        local="one_shot",
        weighting="equal",
    ),
    "spafl": _mix(
        "spafl",
        "mean",
        "SpaFL: clients keep their weights and train a threshold a unit, and the thresholds alone are averaged.",
        local="sparse_units",
        weighting="equal",
    ),
    "median": _mix("none", "median", "Coordinate-wise median of the updates."),
    "trimmed_mean": _mix("none", "trimmed_mean", "Coordinate-wise mean without the extremes."),
    "krum": _mix("none", "krum", "The one update that is closest to its neighbours."),
    "multi_krum": _mix("none", "multi_krum", "Mean of the updates that are closest to their neighbours."),
    "geometric_median": _mix("none", "geometric_median", "The point with the least summed distance to the updates."),
    "fedprox": _mix(
        "none", "mean", "FedProx: federated averaging, clients stay near the global model.", local="proximal"
    ),
    "nbafl": _mix(
        "none",
        "mean",
        "NbAFL: federated averaging near the global model, under privacy: {kind: nbafl}; proves nothing.",
        local="proximal",
    ),
    "fedlex": _mix(
        "none", "mean", "FedLEx: federated averaging, updates scaled by the explored landscape.", local="fedlex"
    ),
    "ppflex": _mix(
        "none",
        "mean",
        "PPFLex: FedLEx whose exploration and updates pass through parties as secure sums.",
        local="fedlex",
        rule={"landscape": "energy"},
    ),
    "centered_clipping": _mix("none", "centered_clipping", "Updates clipped around the previous step, then averaged."),
    "norm_clip": _mix("none", "norm_clip", "Mean of the updates clipped to the norm of a typical one."),
    "weak_dp": _mix("none", "weak_dp", "The same, with a little noise; proves no privacy."),
    "mda": _mix("none", "mda", "Mean of the updates of smallest diameter."),
    "meamed": _mix("none", "meamed", "Coordinate-wise mean of the values nearest to the median."),
    "dnc": _mix("none", "dnc", "Mean of the updates that do not stand out along the direction of most variance."),
    "smea": _mix("none", "smea", "Mean of the updates that vary least along any direction."),
    "caf": _mix("none", "caf", "Mean of updates weighed down along the direction in which they vary most."),
    "flame": _mix("none", "flame", "Mean of the majority's cluster by direction, clipped, with a little noise."),
    "foolsgold": _mix("none", "foolsgold", "Mean weighted by how unlike clients are; hurts IID data by design."),
    "fltrust": _mix("none", "fltrust", "Mean weighted by agreement with clean data that the server owns."),
}
