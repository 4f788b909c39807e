"""The logbook of one run: what happened in each round becomes a :class:`RunRecord`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from torch import Tensor

from autoflip_secure.algorithm.guidance import normalise
from autoflip_secure.federation.aggregating import Assumed
from autoflip_secure.federation.attacking import idle
from autoflip_secure.federation.broadcast_costs import Broadcasts
from autoflip_secure.federation.channel_costs import channel_totals, uplink_beside, with_uplink
from autoflip_secure.federation.channels import names, prepared
from autoflip_secure.federation.client_states import ClientStates
from autoflip_secure.federation.exploration_record import exploration_record
from autoflip_secure.federation.final_record import backdoor_record, guidance_record, layer_records
from autoflip_secure.federation.global_test import GlobalTest, final_mask
from autoflip_secure.federation.lone_costs import lone_training_record
from autoflip_secure.federation.lone_training import LoneTraining
from autoflip_secure.federation.measures import (
    add_counts,
    as_flops,
    digest,
    uplink,
    variance_between_clients,
    variance_over_coordinates,
    versions,
)
from autoflip_secure.federation.outcome import Outcome
from autoflip_secure.federation.own_costs import FinalMasks
from autoflip_secure.federation.own_models import final_masks, tuning_flops
from autoflip_secure.federation.personal_record import PersonalTest
from autoflip_secure.federation.preparation_record import preparation_record
from autoflip_secure.federation.preparing import Preparation
from autoflip_secure.federation.round_costs import RoundCosts
from autoflip_secure.federation.secure_recorder import SecureLog
from autoflip_secure.federation.stability import StabilityLog
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.told_masks import ToldMasks
from autoflip_secure.federation.visibility import pipeline_of
from autoflip_secure.interfaces import Exploration, Guidance
from autoflip_secure.models.amounts import Bytes, Flops
from autoflip_secure.models.costs import CostModel, broadcast_bytes
from autoflip_secure.models.masks import facts
from autoflip_secure.records.detection import detection
from autoflip_secure.records.final_model import ClassAccuracies
from autoflip_secure.records.lone_training import LoneTrainingRecord
from autoflip_secure.records.personal import ClientStateRecord
from autoflip_secure.records.root_set import RootSetRecord
from autoflip_secure.records.run import (
    Costs,
    ExplorationRecord,
    PreparationRecord,
    RoundRecord,
    RunRecord,
    TrainerChoice,
)
from autoflip_secure.records.threats import threats
from autoflip_secure.runtime.platforms import peak_memory
from autoflip_secure.secure_rows.secure_sum import SecureTransfer

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Cell

_BLOCK = (
    "numbers: on this machine the last bits of this model depend on the cells that run beside it; the same sweep gives "
    "the same numbers again, another sweep with the same cell may not"
)
_FROZEN = (
    "frozen: {:,} of {:,} numbers of the model are not trained; each client gets them once, and nothing else is done "
    "with them"
)


class Logbook:
    """Collects one cell's rounds. Everything it writes is computed from outcomes, never fed back."""

    def __init__(self, cell: Cell, costs: CostModel) -> None:
        self.cell, self.costs = cell, costs
        self.rounds: list[RoundRecord] = []
        self.events: list[str] = []
        self._exploration: ExplorationRecord | None = None
        self._initial: Tensor | None = None  # G before round 1
        self._again: ExplorationRecord | None = None  # since the last round
        self._reached = set[int]()  # clients that have the frozen parameters
        self._told = ToldMasks.of(cell)
        self._alone: LoneTrainingRecord | None = None
        self._ruled = Broadcasts()  # which clients have what the local rule sends
        frozen = int(cell.problem.layout.frozen.sum())
        if frozen:
            self.events.append(_FROZEN.format(frozen, cell.problem.layout.size))
        if cell.problem.units is not None:
            self.events += [f"units: {sentence}" for sentence in cell.problem.units.kept_whole]
        before = tuple(channel.name for channel in prepared(cell))
        self._secret = SecureLog(cell.protocol, tuple(dict.fromkeys((*before, *names(cell)))))
        self._preparation: PreparationRecord | None = None
        self._stability = StabilityLog(cell)
        self.events += self._stability.events
        self._personal: PersonalTest | None = None  # the last one
        self._classes: ClassAccuracies | None = None  # after the last round
        self._root: RootSetRecord | None = None  # so far

    def open(
        self,
        exploration: Exploration | None,
        guidance: Guidance | None,
        events: list[str],
        transfer: SecureTransfer | None,
    ) -> None:
        """Note phase 1."""
        self._secret.add("exploration", transfer)
        self.events += events
        if exploration is None:
            self.events += [] if self.cell.protocol.pruner.begins_alone else idle(self.cell)
            return
        self._stability.explored(exploration)
        self._exploration = self._explored(exploration, transfer)
        if guidance is not None:
            kind = self.cell.protocol.guidance.normalisation
            self._initial = normalise(guidance.energy, self.cell.problem.layout, kind)

    def explored_again(
        self, before: ServerState, exploration: Exploration, events: list[str], transfer: SecureTransfer | None
    ) -> None:
        """Note an exploration between rounds, whose cost is that of the round that follows."""
        self._secret.add("exploration", transfer)
        self.events += [f"before round {before.round + 1}: {event}" for event in events]
        self._again = self._explored(exploration, transfer, before)

    def _explored(
        self, exploration: Exploration, transfer: SecureTransfer | None, before: ServerState | None = None
    ) -> ExplorationRecord:
        here = [*exploration.clients.tolist(), *exploration.rejected]
        self._reached |= set(here)
        told = 0 if before is None else self._told.bytes(before.mask, here)
        return exploration_record(self.cell, self.costs, exploration, transfer, before, told)

    def prepare(self, found: Preparation | None) -> None:
        """Note what all clients sent before training."""
        if found is None:
            return
        for transfer in found.channel_transfers.values():
            self._secret.add("channels", transfer)
        newcomers = set(found.participants) - self._reached
        self._reached |= newcomers
        self.events += found.events
        self._preparation = preparation_record(found, self.cell.problem.layout, self.costs, len(newcomers))

    def begin_alone(self, found: LoneTraining | None) -> None:
        """Note what one client did before round 1."""
        if found is None:
            return
        self._alone = lone_training_record(found, self.cell.problem.layout, self.costs)
        self._reached.add(found.client)
        self._told.knows(found.client, found.mask)
        self.events += [*found.events, *([] if self._exploration else idle(self.cell, found.client))]

    def add(self, outcome: Outcome, found: GlobalTest | None, personal: PersonalTest | None = None) -> None:
        """Note one round; ``found`` is of the global model when it was evaluated, ``personal`` of the clients' own
        models where the cell is about them."""
        layout, protocol = self.cell.problem.layout, self.cell.protocol
        summary, test = None, None
        if found:
            test, self._classes = (found.accuracy, found.loss), found.classes(self.cell.problem.y_test)
        if found and personal is not None:
            summary = personal.summary(found.accuracy)
            test, self._personal = (summary.mean, personal.mean_loss), personal
        mask, delta = facts(outcome.mask, layout), layout.of_trained(outcome.delta).double()
        self.events += outcome.events
        self._reached |= (newcomers := set(outcome.participants) - self._reached)
        spent = RoundCosts.of(self.cell, outcome, self.costs, self._told, newcomers)
        sent, flops = spent.bytes, spent.flops
        self._add_root(outcome.mask)
        self._secret.add("updates", outcome.transfer)
        if protocol.rule is not None and outcome.broadcast_round is not None:
            told = self._ruled.told(outcome.participants, outcome.broadcast_round)
            sent = add_counts(sent, broadcast_bytes(layout, len(told), protocol.rule.broadcast_bits))
        again, self._again = self._again, None
        for transfer in outcome.channel_transfers.values():
            self._secret.add("channels", transfer)
        beside = uplink_beside(outcome)
        sent = uplink(sent, outcome.transfer)
        if again is not None:
            sent, flops = add_counts(sent, again.bytes), add_counts(flops, as_flops(again.flops))
        self.rounds.append(
            RoundRecord(
                round=outcome.round,
                participants=outcome.participants,
                malicious=outcome.malicious,
                scores=outcome.scores,
                trust=outcome.trust,
                rejected=outcome.rejected,
                train_loss=outcome.train_loss,
                test_accuracy=test[0] if test else None,
                test_loss=test[1] if test and math.isfinite(test[1]) else None,
                personal=summary,
                density=spent.density,
                update_variance=(variance := variance_over_coordinates(delta, mask.live_places)),
                update_variance_all=variance
                if mask.live_places is mask.trained_places
                else variance_over_coordinates(delta, mask.trained_places),
                client_variance=variance_between_clients(layout.of_sent(layout.of_trained(outcome.sent))),
                step_norm=float(delta.norm()),
                bytes=with_uplink(sent, sum(beside.values())),
                flops=flops,
                channels=beside or None,
                assumed_malicious=Assumed.of(protocol.aggregator, outcome.aggregated).rules or None,
                attack_success=found.attack_success if found else None,
                stability=self._stability.measured(outcome),
                exploration=again,
            )
        )

    def _add_root(self, mask: Tensor) -> None:
        """Note what the server trained."""
        if (root := self.cell.problem.root) is None:
            return
        spent = self.costs.training(mask, len(root) * self.cell.protocol.training.epochs)
        so_far = spent if self._root is None else add_counts(self._root.flops, spent)
        self._root = RootSetRecord(samples=len(root), flops=so_far)

    def _costs(self, mask: Tensor, own: FinalMasks | None, tuning: Sequence[Flops]) -> Costs:
        total_bytes = Bytes(uplink_values=0, uplink_bitmask=0, downlink_values=0, downlink_bitmask=0)
        total_flops = Flops(dense=0, sparse=0, compacted=0)
        if self._exploration is not None:
            total_bytes = add_counts(total_bytes, self._exploration.bytes)
            total_flops = add_counts(total_flops, as_flops(self._exploration.flops))
        first = self._preparation
        begun = (one for one in (first, self._alone) if one is not None)
        for record in [*begun, *self.rounds]:
            total_bytes, total_flops = add_counts(total_bytes, record.bytes), add_counts(total_flops, record.flops)
        total_flops = reduce(add_counts, tuning, total_flops)
        return Costs(
            bytes=total_bytes,
            flops=total_flops,
            model_flops=self.costs.forward(mask) if own is None else own.flops,
            compaction=self.costs.compaction_of(mask) if own is None else own.compaction,
            channels=channel_totals([None if first is None else first.channels, *(r.channels for r in self.rounds)]),
        )

    def _digests(self, mask: Tensor, own: FinalMasks | None) -> dict[str, str]:
        found = {"mask": digest(mask) if own is None else own.digest}
        if self._initial is not None:
            found["guidance"] = digest(self._initial)
        return found

    def close(
        self,
        state: ServerState,
        trainer: TrainerChoice,
        seconds: float,
        kept: ClientStates | None = None,
    ) -> RunRecord:
        """The record of the whole run, which ended in ``state``; ``kept``: what its clients remember."""
        cell, own, mask, guidance = self.cell, None, state.model_mask, state.guidance
        if kept is not None and kept.own_masks:
            own = FinalMasks.of(final_masks(cell, state, kept), cell.problem.layout, cell.problem.units, self.costs)
        final = self.rounds[-1]
        assert final.test_accuracy is not None
        return RunRecord(
            cell=cell.key,
            config=cell.config,
            axes=cell.axes,
            algorithm=cell.algorithm,
            seed=cell.seed,
            versions=versions(trainer.device, mixed=cell.protocol.training.precision != "float32"),
            pipeline=pipeline_of(cell.protocol, names(cell), [channel.name for channel in prepared(cell)]),
            parameters=int(cell.problem.layout.sent.sum()),
            malicious_clients=cell.malicious_clients.nonzero().squeeze(1).tolist(),
            threats=threats(cell.protocol.attack.parts),
            client_samples=[len(rows) for rows in cell.problem.clients],
            root_set=self._root,
            trainer=trainer,
            exploration=self._exploration,
            preparation=self._preparation,
            lone_training=self._alone,
            guidance=guidance_record(cell, self._initial, guidance, mask),
            rounds=self.rounds,
            layers=layer_records(cell.problem, mask, own),
            costs=self._costs(mask, own, tuning_flops(cell, state, kept, self.costs)),
            detection=detection(self.rounds, cell.malicious_clients.nonzero().squeeze(1).tolist()),
            classes=self._classes,
            backdoor=backdoor_record(cell, mask, whole=own is not None),
            mask=None if own is not None else final_mask(mask[cell.problem.layout.prunable.to(mask.device)]),
            final_accuracy=final.test_accuracy,
            final_loss=final.test_loss,
            events=[*self.events, *([_BLOCK] if trainer.bits == "block" else [])],
            secure_sum=self._secret.record(),
            personal=None if self._personal is None else self._personal.by_client(cell),
            client_state=None if kept is None else ClientStateRecord(bytes_per_client=kept.bytes_per_client),
            digests=self._digests(mask, own),
            timing={
                "seconds": round(seconds, 4),
                **self._secret.timing(),
                **({} if (peak := peak_memory()) is None else {"peak_memory_mib": round(peak / 2**20, 1)}),
            },
        )
