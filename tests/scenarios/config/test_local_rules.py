"""Local rules in a scenario: how they are written, what they go with, and what is refused before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.local_rules.fedlex import FedLEx
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve

OWN = "algorithm: {{name: own, pruner: none, aggregator: mean, local_rule: {}}}"


def read(*lines: str) -> LoadedScenario:
    text = "\n".join(("name: s", "seeds: [3]", "data: {kind: digits, train_samples: 120, test_samples: 50}", *lines))
    return resolve(Document.parse(text, "s.yaml"))


def config(*lines: str) -> dict[str, Any]:
    found: dict[str, Any] = read(*lines).cells[0].config["algorithm"]
    return found


def test_by_name_by_short_form_and_in_full() -> None:
    rules = {text: read(text).cells[0].settings.algorithm.local_rule for text in (
        "algorithm: fedprox", "algorithm: {name: fedprox, local_rule: {mu: 0.1}}", "algorithm: fedlex",
        OWN.format("proximal"), OWN.format("{kind: fedlex, apply: gradient}"),
        "algorithm: {name: autoflip_plus, local_rule: proximal}",
    )}  # fmt: skip
    assert list(rules.values()) == [
        Proximal(), Proximal(mu=0.1), FedLEx(), Proximal(), FedLEx(apply="gradient"), Proximal(),
    ]  # fmt: skip
    assert config("algorithm: fedprox")["local_rule"] == {"kind": "proximal", "mu": 0.01}


def test_without_a_rule_a_cell_is_the_one_that_it_always_was() -> None:
    assert "local_rule" not in config("algorithm: fedavg")
    same = ["algorithm: fedavg", "algorithm: {name: fedavg, local_rule: none}"]
    assert len({read(text).cells[0].key for text in same}) == 1
    assert read("algorithm: fedprox").cells[0].key != read("algorithm: fedavg").cells[0].key


def test_only_what_needs_the_landscape_explores() -> None:
    from autoflip_secure.scenarios.config.protocols import protocol

    explores = {
        name: protocol(read(f"algorithm: {name}").cells[0].settings) for name in ("fedavg", "fedprox", "fedlex")
    }
    assert {name: one.explores for name, one in explores.items()} == {"fedavg": False, "fedprox": False, "fedlex": True}
    assert not any(one.guided for one in explores.values())


SECURE = ("secure_sum: {parties: 2}", "clients: 6", "cohort: 4")
LINEAR = "exploration: {method: linear, reveal: sum}"


def test_secure_sums_reveal_a_landscape_and_no_explorer() -> None:
    with pytest.raises(InputError, match=r"algorithm = fedlex: its local rule fedlex looks at .*landscape: energy"):
        read("algorithm: fedlex", *SECURE, LINEAR)
    anew = "algorithm: {name: fedlex, local_rule: {matrix: per_round}}"
    with pytest.raises(InputError, match=r"its local rule fedlex looks at what single explorers sent"):
        read(anew, *SECURE, LINEAR)
    with pytest.raises(InputError, match=r"tells everybody who took part.*set matrix: once, or privacy: none"):
        read(anew, "privacy: {kind: sample_level, noise_multiplier: 1}")
    with pytest.raises(InputError, match=r"exploration\.method = robust"):
        read("algorithm: {name: fedlex, local_rule: {landscape: energy}}", *SECURE)
    assert read("algorithm: {name: fedlex, local_rule: {landscape: energy}}", *SECURE, LINEAR).cells
    assert read("algorithm: fedprox", "secure_sum: {parties: 2, updates: true}", *SECURE[1:]).cells


def test_masks_that_clients_move_are_their_own_and_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rules.py").write_text(
        "from autoflip_secure.interfaces import LocalRule\n"
        "class Moves(LocalRule):\n    def mask(self, view, gradients, epoch, epochs):\n        return view.masks\n"
        "class Doubles(LocalRule):\n    def gradient(self, view, gradients):\n        return [2 * g for g in gradients]"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for rule in ("regrow", "'my_rules:Moves'"):
        shared = (
            r"algorithm\.local_rule = (regrow|my_rules:Moves): moves each client's mask .*lottery or own_erk"
            r".* or erk_of_all"
        )
        with pytest.raises(InputError, match=shared):
            read(OWN.format(rule))
        own = f"algorithm: {{name: own, pruner: own_erk, aggregator: mean, local_rule: {rule}}}"
        assert read(own).cells
        with pytest.raises(InputError, match=r"privacy\.kind = sample_level: does not protect"):
            read(own, "privacy: {kind: sample_level, noise_multiplier: 1}")
    with pytest.raises(InputError, match=r"regrow: would move masks after none of training\.epochs = 2"):
        read("algorithm: {name: fedspa, local_rule: {after: 3}}", "training: {epochs: 2}")
    with pytest.raises(
        InputError, match=r"algorithm\.name = fedprox: is an algorithm of this package, and its local_rule"
    ):
        read("algorithm: {name: fedprox, local_rule: 'my_rules:Doubles'}")
    assert read(OWN.format("'my_rules:Doubles'")).cells


@pytest.mark.parametrize(
    "rule", ["{kind: proximal, mu: 0}", "{kind: proximal, mu: -1}", "{kind: fedlex, apply: both}", "fedlax"]
)
def test_options_have_bounds(rule: str) -> None:
    with pytest.raises(InputError, match=r"local_rule"):
        read(OWN.format(rule))
