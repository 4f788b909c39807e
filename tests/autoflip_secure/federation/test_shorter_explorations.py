"""Explorers that send less: the map by hand, bytes each time, attackers and privacy before the message is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from digits_cells import AUTOFLIP, PLUS, PROBLEM, cell, run
from seen_rounds import Seen
from torch import Tensor

from autoflip_secure.algorithm.exploration import ExplorationConfig, explore
from autoflip_secure.attacks.poisoning.faults import Fault
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.landscape_lie import LandscapeLie
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.models.costs import exploration_bytes
from autoflip_secure.models.exploration_messages import decode_deviation, encode_deviation
from autoflip_secure.training import choose_trainer

FORMS = [{"upload_bits": 16}, {"upload_share": 0.4}, {"upload_bits": 16, "upload_share": 0.4}]


def exploring(**other: Any) -> ExplorationConfig:
    return ExplorationConfig(epochs=2, **other)


class Rows(Seen):
    """And what explorers sent before round 1, as the server has it."""

    explored: Tensor | None = None

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        self.explored = sent


def sent_in(one: Cell) -> tuple[Tensor, Seen, Any]:
    seen = Rows()
    (record,) = run_cells([one], choose_trainer(PROBLEM.module, PROBLEM.layout, PROBLEM.x_train[:1]), watch=seen)
    assert seen.explored is not None
    return seen.explored, seen, record


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("algorithm", [AUTOFLIP, PLUS])
def test_the_server_has_what_the_messages_say(form: dict[str, Any], algorithm: dict[str, Any]) -> None:
    whole, *_ = sent_in(cell(exploration=exploring(), **algorithm))
    config = exploring(**form)
    one = cell(exploration=config, **algorithm)
    sent, seen, record = sent_in(one)
    layout, share = PROBLEM.layout, config.upload_share
    messages = [encode_deviation(row, layout, config.upload_bits, share) for row in whole]
    assert torch.equal(sent, torch.stack([decode_deviation(message, layout, share) for message in messages]))
    assert not torch.equal(sent, whole)
    found = explore(one.explorers, one.owned(one.explorers), sent, "robust", [])
    first = seen.before[0].guidance
    assert first is not None
    assert torch.equal(first.energy, found.energy)
    up = sum(map(len, messages))
    dense = exploration_bytes(layout, len(messages))
    assert record.exploration.bytes.uplink_values == record.exploration.bytes.uplink_bitmask == up
    assert up < 0.8 * dense.uplink_values
    assert record.exploration.bytes.downlink_values == dense.downlink_values
    rest = sum(entry.bytes.uplink_values for entry in record.rounds)
    assert record.costs.bytes.uplink_values == up + rest


def test_explorers_that_explore_again_send_as_little_again() -> None:
    config = exploring(every=2, upload_bits=16, upload_share=0.5)
    (record,) = run(cell(rounds=4, exploration=config, **AUTOFLIP))
    again = record.rounds[2].exploration
    assert record.exploration is not None
    assert again is not None
    assert again.bytes.uplink_values == record.exploration.bytes.uplink_values
    assert again.bytes.uplink_values < 0.5 * exploration_bytes(PROBLEM.layout, len(again.explorers)).uplink_values


@pytest.mark.parametrize("attack", [GaussianNoise(sigma=0.5, scope=0.3), LandscapeLie(scope=0.3)])
def test_attacks_act_before_the_message_is_made(attack: Any) -> None:
    config = exploring(upload_bits=16, upload_share=0.4)
    honest, *_ = sent_in(cell(exploration=config, **AUTOFLIP))
    sent, _, record = sent_in(cell(exploration=config, attack=attack, **AUTOFLIP))
    changed = [not torch.equal(a, b) for a, b in zip(sent, honest, strict=True)]
    assert changed == record.exploration.malicious
    for row in sent:  # a liar's message has no more numbers than an honest one's
        for segment in PROBLEM.layout.hidden:
            assert int((row[segment.slice] != 0).sum()) <= -(-2 * (segment.stop - segment.start) // 5)


def test_what_is_not_finite_is_left_out_as_ever() -> None:
    (record,) = run(
        cell(exploration=exploring(upload_bits=16, upload_share=0.4), attack=Fault(sends="nan", scope=0.3), **AUTOFLIP)
    )
    assert any("left out" in event for event in record.events)


def test_privacy_noises_before_and_its_ledger_is_the_same() -> None:
    """What is left out of a row that has its noise is post-processing."""
    private = {"privacy": ClientLevel(noise="distributed", noise_multiplier=2.0, clip=1.0)}

    def of(config: ExplorationConfig) -> tuple[Tensor, Any]:
        own = replace(cell(exploration=config, **private, **AUTOFLIP), noise_multipliers=(2.0,) * 10)
        sent, _, record = sent_in(own)
        return sent, record

    whole, short = of(exploring()), of(exploring(upload_bits=16, upload_share=0.3))
    layout = PROBLEM.layout
    messages = [encode_deviation(row, layout, 16, 0.3) for row in whole[0]]
    assert torch.equal(short[0], torch.stack([decode_deviation(message, layout, 0.3) for message in messages]))
    assert bool(whole[0].all()), "there is no noise"
    assert short[1].privacy == whole[1].privacy
