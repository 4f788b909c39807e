"""Which planted faults an audit finds, at which target: the table of docs/privacy.md.

.. code-block:: text

    python benchmarks/audit_power.py                       all of it: two hours on two slow cores
    python benchmarks/audit_power.py --modes samples --targets 8 --faults "noise x 1/2"
    python benchmarks/audit_power.py --alarms 20           a correct implementation, so many seeds: how often it is
    blamed
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import torch
from planted_faults import FAULTS, planted

from autoflip_secure.federation.cell import Cell
from autoflip_secure.records.audit import EmpiricalEpsilon, verdict_of
from autoflip_secure.records.rounding import lower_text, upper_text
from autoflip_secure.scenarios.audits.clients import bounds_of, client_epsilons
from autoflip_secure.scenarios.audits.gradients import gradient_epsilons
from autoflip_secure.scenarios.audits.view import Effort, each
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.training import Trainer

BASE = """
name: power
data: digits
model: {{kind: mlp, hidden: [16]}}
clients: 10
cohort: 5
rounds: 10
training: {{optimizer: sgd, lr: 0.3, batch_size: 16, epochs: 2}}
exploration: {{epochs: 2}}
seeds: [{seed}]
{mode}
"""
MODES = {
    "samples": "algorithm: autoflip\nprivacy: {{kind: sample_level, clip: 1.0, target_epsilon: {target}}}",
    "clients, each adds noise": "algorithm: autoflip\n"
    "privacy: {{kind: client_level, clip: 1.0, noise: distributed, target_epsilon: {target}}}",
    "clients, server, Poisson": "algorithm: fedavg\nsampling: poisson\n"
    "privacy: {{kind: client_level, clip: 1.0, target_epsilon: {target}}}",
    "clients, server, fixed": "algorithm: fedavg\nprivacy: {{kind: client_level, clip: 1.0, target_epsilon: {target}}}",
}
TARGETS = ("1", "2", "4", "8")


def built(folder: Path, mode: str, target: str, seed: int) -> tuple[Cell, Trainer]:
    """A cell with the noise that its ledger asks for."""
    path = folder / "power.yaml"
    path.write_text(BASE.format(seed=seed, mode=MODES[mode].format(target=target)))
    block = plan(load(str(path))).blocks[0]
    builder = CellBuilder()
    trainer = builder.trainer(block.cells[0])
    return builder.cell(block.cells[0], block.cells[0], torch.device("cpu")), trainer


def attacked(mode: str, target: str, fault: str, seed: int = 21) -> list[EmpiricalEpsilon]:
    """The bounds of the audit that decide, without membership and images."""
    with tempfile.TemporaryDirectory() as folder, planted(fault) as spoil:
        cell, trainer = spoil(*built(Path(folder), mode, target, seed))
        if mode == "samples":
            return gradient_epsilons(cell, trainer, Effort(), each(5))
        return client_epsilons(cell, Effort(), each(2 + bounds_of(cell)))


def told(bounds: Sequence[EmpiricalEpsilon]) -> str:
    """What was found, by which bound first: as run before calibrated."""
    broken = next((bound for bound in bounds if bound.violated), None)
    if broken is None:
        return {"holds": "not found", "cannot tell": "cannot tell"}.get(verdict_of(bounds), "no guarantee")
    where = broken.noise if broken.part == "everything" else broken.part
    return f"{where}: {lower_text(broken.lower)} > {upper_text(broken.proven)}"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--alarms", type=int, default=0, metavar="SEEDS", help="no fault, so many seeds")
    arguments = parser.parse_args()
    if arguments.alarms:
        for mode in arguments.modes:
            for target in arguments.targets:
                seeds = range(100, 100 + arguments.alarms)
                blamed = sum(verdict_of(attacked(mode, target, "none", seed)) == "violated" for seed in seeds)
                print(f"{mode}, target {target}: {blamed} of {arguments.alarms} correct runs blamed", flush=True)
        return
    print(f"| mode | fault | {' | '.join(f'target {target}' for target in arguments.targets)} | seconds each |")
    print(f"|{'---|' * (len(arguments.targets) + 3)}")
    for mode in arguments.modes:
        for fault in arguments.faults:
            if fault == FAULTS[-1] and "autoflip" not in MODES[mode]:
                continue  # nobody explores
            begun, cells = monotonic(), [told(attacked(mode, target, fault)) for target in arguments.targets]
            each_took = (monotonic() - begun) / len(cells)
            print(f"| {mode} | {fault} | {' | '.join(cells)} | {each_took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
