"""The audit of one scenario: its ledger, and what attackers really achieve on one of its cells.

Attacks live in ``attacks/`` and know nothing of the truth; here they get what an observer sees, and are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from time import monotonic

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import names
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.measures import versions
from autoflip_secure.records.audit import AuditRecord, MembershipResult
from autoflip_secure.scenarios.audits import clients as audit_clients
from autoflip_secure.scenarios.audits import gradients as audit_gradients
from autoflip_secure.scenarios.audits.labels import label_inference
from autoflip_secure.scenarios.audits.membership import against_model, against_update
from autoflip_secure.scenarios.audits.samples import sample_epsilons
from autoflip_secure.scenarios.audits.view import Effort, Views, each, in_the_open, victim_of
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.training import Trainer

_LONG = 60.0  # seconds that are worth telling beforehand


def audit(
    cell: Cell,
    trainer: Trainer,
    scenario: str,
    effort: Effort | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> AuditRecord:
    """Run the cell, which has its noise multipliers, attack it, and hold every attack against what is proven.

    Raises:
        InputError: there is no honest client worth attacking.
    """
    effort, views, found, empirical = effort or Effort(), Views(), [], []
    bare = in_the_open(cell)
    tell("training the attacked model")
    begun = monotonic()
    (record,) = run_cells([bare], trainer, watch=views)
    expected = (monotonic() - begun) * _times_as_long(cell, effort)
    if expected > _LONG:
        tell(f"attacks on it: at most about {span(expected)}")
    victim = victim_of(cell, views)
    notes = [
        f"attacked: client {victim}, honest, with {len(cell.problem.clients[victim])} samples",
        "the attacker knows the architecture, the schedule and the global models, and data of the same kind",
    ]
    visibility = cell.protocol.visibility
    notes += _beside(cell)
    if visibility.secret:
        notes.append("updates pass through parties: no attack on single updates or on samples in them was run")
    else:
        tell(
            f"membership inference against client {victim}: {effort.targets} targets, {effort.shadows} shadow trainings"
        )
        with _else_noted(notes, "membership inference against updates"):
            found += _or_noted(notes, "updates", against_update(bare, trainer, views, victim, effort))
    tell(f"membership inference against the global model: {effort.federations} shadow federations")
    with _else_noted(notes, "membership inference against the global model"):
        found += _or_noted(notes, "the global model", against_model(bare, trainer, effort))
    claimed = visibility.noise == "samples"
    bounds = 0 if visibility.secret else 2
    confidence = each(bounds + (audit_gradients.bounds_of(cell) if claimed else audit_clients.bounds_of(cell)))
    if not visibility.secret:
        tell(f"empirical epsilon of samples: {effort.samples} canaries, then {effort.runs} runs of one")
        with nullcontext() if claimed else _else_noted(notes, "empirical epsilon of samples"):
            empirical += sample_epsilons(bare, trainer, views, victim, effort, confidence)
    if claimed:
        tell(f"empirical epsilon of samples: {effort.gradient_runs} runs of canary gradients, twice or more")
        sharpest = audit_gradients.gradient_epsilons(cell, trainer, effort, confidence)
        empirical += sharpest
        notes += [] if sharpest else ["canary gradients: nothing is proven, or no honest client has a whole batch"]
        if sharpest and visibility.secret:
            notes.append(
                "canary gradients: what parties hide is attacked all the same, for the proof does not need them"
            )
    if cell.protocol.client_level is not None:
        tell(f"empirical epsilon of clients: {effort.client_runs} federations of canaries, twice or more")
        empirical += audit_clients.client_epsilons(cell, effort, confidence)
    tell("label inference from the exploration")
    labels = label_inference(cell, trainer, views)
    if labels and cell.protocol.secure_sum is not None:
        notes.append(
            "deviations pass through parties: plain is what they hide, securely summed is what their sum tells"
        )
    if "numbers" in (visibility.server, visibility.explored):
        notes.append(
            "numbers about single clients are revealed beside the sums; a trained attack on them guesses classes too "
            "(docs/secure_sums.md), which this audit does not run"
        )
    if cell.protocol.explores and cell.protocol.exploration.every is not None:
        notes.append(
            "explorers explore again in the course of training, which this audit does not attack: it looks at the "
            "exploration before round 1, updates and models"
        )
    if not labels:
        notes.append("label inference: nobody explores, or every explorer owns every class")
    return AuditRecord(
        scenario=scenario,
        cell=cell.key,
        axes=cell.axes,
        algorithm=cell.algorithm,
        seed=cell.seed,
        versions=versions(str(trainer.device)),
        effort=asdict(effort),
        attack=cell.config["attack"],
        protection=cell.config["privacy"],
        parties=cell.config["secure_sum"],
        final_accuracy=record.final_accuracy,
        privacy=ledger(cell),
        membership=found,
        empirical=empirical,
        labels=labels,
        notes=notes,
    )


def _beside(cell: Cell) -> list[str]:
    """What is attacked of what clients send beside their updates."""
    sent = f"clients send {', '.join(names(cell))} beside their updates"
    if not names(cell):
        return []
    if cell.protocol.client_level is not None:
        return [f"{sent}: canaries of clients are planted there too; no other attack looks at that"]
    return [f"{sent}, which this audit does not attack: it looks at updates, the exploration and the models alone"]


def span(seconds: float) -> str:
    """A time in words: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _times_as_long(cell: Cell, effort: Effort) -> float:
    """How much longer than the attacked run its attacks train, without what training many at once saves."""
    protocol = cell.protocol
    own = float(protocol.rounds * protocol.cohort)  # local trainings
    own += len(cell.explorers) * protocol.exploration.epochs / protocol.training.epochs
    alone = 0 if protocol.visibility.secret else effort.rounds * (effort.targets + effort.shadows) + effort.runs
    return 1 + effort.models + effort.federations + alone / own


@contextmanager
def _else_noted(notes: list[str], what: str) -> Iterator[None]:
    """Attacks train on other samples than the scenario; where the model refuses those, the attack is left out."""
    try:
        yield
    except InputError as error:
        notes.append(f"{what} was not run: {error}")


def _or_noted(notes: list[str], against: str, found: list[MembershipResult]) -> list[MembershipResult]:
    """What was found; where nothing could be tried, the notes say so."""
    if not found:
        notes.append(f"membership inference against {against} was not run: too few samples")
    return found
