"""Logs on disk: what they mean, and one sentence for each way in which they cannot be true."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoflip_secure.errors import InputError
from autoflip_secure.records.account import FederationAccount
from autoflip_secure.scenarios.logs.account import account, client_lines
from autoflip_secure.scenarios.logs.reading import read_log

WHOLE: dict[str, Any] = {
    "name": "Ward 7", "unit": "client", "delta": 1e-5, "clients": ["a", "b", "c", "d"], "noise": "central",
    "aggregate": "sum", "secure_sum": False, "settings": "in advance", "sampling": "unknown", "clip": 2.0,
    "noise_multiplier": 3.0, "last_round": 3,
    "rounds": [
        {"round": 1, "participants": ["a", "b"]},
        {"round": 2, "participants": ["b", "c"], "noise_multiplier": 4.0},
        {"round": 3, "participants": []},
    ],
}  # fmt: skip
SAMPLES: dict[str, Any] = {
    **{k: v for k, v in WHOLE.items() if k not in ("noise", "aggregate", "secure_sum", "sampling")},
    "unit": "sample", "batches": "poisson", "batch_rate": 0.1, "steps": 5,
}  # fmt: skip


def written(folder: Path, document: dict[str, Any], table: str | None = None) -> Path:
    path = folder / "log.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    if table is not None:
        (folder / "rounds.csv").write_text(table)
    return path


def counted(folder: Path, document: dict[str, Any], table: str | None = None) -> FederationAccount:
    return account(read_log(written(folder, document, table)))


def epsilons(found: FederationAccount) -> dict[str, float]:
    (public,) = (g for g in found.privacy.guarantees if g.observer == "public")
    return {found.names[entry.client or 0]: entry.epsilon or 0 for entry in public.clients}


def test_yaml_json_and_a_table_say_the_same(tmp_path: Path) -> None:
    found = counted(tmp_path, WHOLE)
    assert set(epsilons(found)) == {"a", "b", "c"}
    assert epsilons(found)["b"] > epsilons(found)["a"] > epsilons(found)["c"]
    assert (found.rounds, found.participations, found.noise_multipliers) == (2, 4, (3.0, 4.0))
    (tmp_path / "log.json").write_text(json.dumps(WHOLE))
    assert account(read_log(tmp_path / "log.json")).privacy == found.privacy
    table = "round,client,noise_multiplier\n2,c,4\n1,a,\n1,b,\n3,,\n2,b,4\n"
    by_table = counted(tmp_path, {**WHOLE, "rounds": "rounds.csv"}, table)
    assert epsilons(by_table) == epsilons(found)
    as_floats = {**WHOLE, "rounds": "rounds.csv"}
    assert counted(tmp_path, as_floats, table.replace("\n2,", "\n2.0,")).privacy == by_table.privacy
    assert len(by_table.files) == 2
    std = {**WHOLE, "noise_multiplier": None, "noise_std": 6.0}
    std["rounds"] = [
        *WHOLE["rounds"][:1],
        {"round": 2, "participants": ["b", "c"], "noise_std": 8.0},
        WHOLE["rounds"][2],
    ]
    assert counted(tmp_path, std).privacy == found.privacy


def test_numbers_of_participants_are_enough(tmp_path: Path) -> None:
    some = {**WHOLE, "clients": 4, "rounds": "rounds.csv"}
    found = counted(tmp_path, some, "round,participants\n1,2\n2,2\n3,0\n")
    assert found.names == []
    assert any("only how many" in remark for remark in found.remarks)
    assert {line.client for line in client_lines(found)} == {"every"}


def test_samples(tmp_path: Path) -> None:
    own = copy.deepcopy(SAMPLES)
    own["rounds"][0]["steps"] = {"a": 5, "b": 50}
    found = counted(tmp_path, own)
    assert epsilons(found)["b"] > epsilons(found)["a"]
    shuffled = {**SAMPLES, "batches": "shuffled", "batch_rate": None, "steps": None, "epochs": 1}
    unknown = {**SAMPLES, "batches": "unknown", "batch_rate": None, "steps": 5}
    once, every = (epsilons(counted(tmp_path, log))["a"] for log in (shuffled, unknown))
    assert once < every, "in a shuffled epoch a sample is in one batch"
    table = "round,client,steps,batch_rate\n1,a,5,0.1\n1,b,50,0.1\n2,b,5,0.1\n2,c,5,0.1\n3,,,\n"
    by_table = {**SAMPLES, "steps": None, "batch_rate": None, "rounds": "rounds.csv"}
    again = counted(tmp_path, {**by_table, "noise_multiplier": 3.0}, table)
    own["rounds"][1].pop("noise_multiplier")
    assert epsilons(again) == epsilons(counted(tmp_path, own))


def test_a_line_for_every_client_and_observer(tmp_path: Path) -> None:
    lines = client_lines(counted(tmp_path, WHOLE))
    public = {line.client: line for line in lines if line.observer == "public"}
    assert {name: line.releases for name, line in public.items()} == {"a": 1, "b": 2, "c": 1}
    assert "noise 4" in public["b"].released
    assert all(line.epsilon is None and line.reason for line in lines if line.observer == "server")


def poisson(rate: float) -> dict[str, Any]:
    return {"kind": "poisson", "rate": rate, "secret_from": ["public"]}


def rounds(count: int, *people: str) -> dict[str, Any]:
    return {"rounds": [{"round": n + 1, "participants": list(people)} for n in range(count)], "last_round": count}


def only(**changed: Any) -> dict[str, Any]:
    return {"rounds": [{"round": 1, "participants": ["a", "b"], **changed}], "last_round": 1}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"last_round": 5}, "2 rounds of 1 to 5 missing (4 and 5)"),
    ({"last_round": 2}, "round 3 comes after last_round = 2"),
    (only(noise_multiplier=-1.0), "rounds.0.noise_multiplier = -1.0: should be greater than or equal to 0"),
    (only(clip=0.0), "should be greater than 0"),
    (only(participants=["a", "a"]), "client 'a' takes part twice in round 1"),
    (only(participants=["a", "z"]), "client 'z' of round 1 is not among clients"),
    (only(participants=9), "there are 4 clients"),
    (only(steps=3), "does not go with unit: client"),
    (only(noise_std=1.0, noise_multiplier=1.0), "both given"),
    ({"rounds": [*WHOLE["rounds"], WHOLE["rounds"][0]]}, "round 1 appears 2 times"),
    ({"sampling": poisson(1.5)}, "sampling.rate = 1.5: should be less than or equal to 1"),
    ({"sampling": poisson(0.01), **rounds(9, "a", "b", "c")}, "do not give that"),
    ({"sampling": poisson(0.3), **rounds(60, "a", "b")}, "do not give that"),
    ({"sampling": {"kind": "fixed", "cohort": 2, "secret_from": ["public"]}}, "who stays away is no uniform draw"),
    ({"sampling": {"kind": "fixed", "cohort": 2, "secret_from": []}, **rounds(99, "a", "b")}, "took part in 99 of 99"),
    ({"sampling": {"kind": "poisson", "rate": 0.5}}, "secret_from: is missing"),
    ({"sampling": {"kind": "poisson", "rate": 0.5, "secret_from": ["server"]}}, "secret_from"),
    ({"delta": 0.3}, "should be below 1/4"),
    ({"delta": 0}, "delta = 0: should be greater than 0"),
    ({"aggregate": None}, "aggregate: is missing"),
    ({"aggregate": "other", "secure_sum": True}, "goes with aggregate: sum only"),
    ({"settings": None}, "settings"),
    ({"clip": None}, "clip: is missing in round 1"),
    ({"noise_multiplier": None}, "noise_multiplier: is missing in round 1"),
    ({"clients": ["a", "a", "b", "c"]}, "'a' is listed twice"),
    ({"clients": 2}, "3 different ones take part"),
    ({"colluding": 4}, "leaves nobody to protect"),
    ({"colluding": ["z"]}, "'z' is not a client"),
    ({"batches": "poisson"}, "does not go with unit: client"),
    ({"nois": "central"}, "unknown key 'nois'; did you mean 'noise'?"),
    ({"noise_multiplier": "1,1"}, "write 1.1"),
    ({"rounds": "none.csv"}, "no such file"),
    ({"rounds": "../none.csv"}, "rounds = ../none.csv: no such file"),
    ({"rounds": ""}, "rounds is empty; give a CSV file"),
    (only(participants=-1), "rounds.0.participants = -1: should be greater than or equal to 0 (names of those"),
    (only(participants="x"), "rounds.0.participants = 'x': should be a valid integer"),
    (only(participants=1.5), "rounds.0.participants = 1.5: should be a valid integer"),
    (only(participants=1e30), "rounds.0.participants = 1e+30: is too large"),
    (only(participants={"a": 1}), "rounds.0.participants = {'a': 1}: should be a list"),
    (only(participants=["a", ["b"]]), "rounds.0.participants.1 = ['b']: should be a valid string"),
    (only(participants=["a", " a"]), "client 'a' takes part twice in round 1"),
    ({"clients": 0}, "clients = 0: should be greater than or equal to 1 (all who could have"),
    ({"clients": []}, "clients = []: should have at least 1 item"),
    ({"colluding": -1}, "colluding = -1: should be greater than or equal to 0"),
    ({"colluding": ["a", "a"]}, "colluding: 'a' is listed twice; keep one"),
]


@pytest.mark.parametrize(("changed", "words"), BAD)
def test_what_cannot_be_true_is_one_sentence(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    document = {key: value for key, value in {**WHOLE, **changed}.items() if value is not None}
    with pytest.raises(InputError) as error:
        read_log(written(tmp_path, document))
    assert words in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "log.yaml"))
    assert "\n" not in str(error.value)


def test_what_is_no_log_is_not_taken_for_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    (tmp_path / "latin.yaml").write_bytes("unit: clïent\n".encode("latin-1"))
    (tmp_path / "empty.yaml").write_text("# later\n")
    for name in ("none.yaml", ".", "empty.yaml", "list.yaml", "picture.yaml", "latin.yaml"):
        with pytest.raises(InputError) as error:
            read_log(tmp_path / name)
        assert "scenario" not in str(error.value)
        assert "autoflip" not in str(error.value)


SAMPLE_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"batches": None}, "batches: is missing"),
    ({"steps": None}, "steps: is missing in round 1; batches: poisson needs it"),
    ({"batch_rate": 2.0}, "batch_rate = 2.0: should be less than or equal to 1"),
    ({"noise": "central"}, "noise: does not go with unit: sample"),
    (only(steps={"a": 4}), "'b' is on one side only"),
    (only(steps=-1), "rounds.0.steps = -1: should be greater than or equal to 1"),
    (only(steps={"a": 4, "b": -1}), "rounds.0.steps.b = -1: should be greater than or equal to 1"),
    (only(steps={"a": 4, "b": 1, "b ": 9}), "'b' is named twice; keep one"),
    (only(batch_rate="x"), "rounds.0.batch_rate = 'x': should be a valid number"),
]


@pytest.mark.parametrize(("changed", "words"), SAMPLE_FAULTS)
def test_what_local_training_needs(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    document = {key: value for key, value in {**SAMPLES, **changed}.items() if value is not None}
    with pytest.raises(InputError) as error:
        read_log(written(tmp_path, document))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


TABLES = [
    ("round,client,nois\n", "rounds.csv:1: unknown column 'nois'; did you mean 'noise_std'"),
    ("round,clip\n1,1\n", "rounds.csv:1: the columns should be round, and either client"),
    ("round,client\n1,a\n1,b\n1,a\n", "rounds.csv:4: client 'a' takes part twice in round 1"),
    ("round,client\n1,a,3\n", "rounds.csv:2: 3 fields, but 2 columns"),
    ("round,client\none,a\n", "rounds.csv:2: round = 'one': should be a whole number"),
    ("round,client,clip\n1,a,1\n1,b,2\n", "rounds.csv:3: clip or noise of round 1 differs from that on line 2"),
    ("round,client\n1,a\n1,\n", "rounds.csv:3: client: is missing here or on line 2; an empty one says that nobody"),
    ("round,client\n1,\n1,a\n", "rounds.csv:3: client: is missing here or on line 2; an empty one says that nobody"),
    ("round,client,steps\n1,,3\n", "rounds.csv:2: client: is missing, and steps is of one"),
    ("round,participants\n1,2\n1,2\n", "rounds.csv:3: round 1 appears twice (first on line 2)"),
    ("round,participants\n1,\n", "rounds.csv:2: participants: is missing"),
    ("round,client,noise_multiplier\n1,a,-2\n2,a,1\n3,a,1\n", "rounds.csv:2: rounds.0.noise_multiplier = -2.0"),
    ("round,client\n1,\"a\n", "is not a CSV file"),
    ("round,client,noise_multiplier\n1,a,1_1\n", "rounds.csv:2: noise_multiplier = '1_1': should be a number"),
    ("round,participants\n1,2.5\n", "rounds.csv:2: participants = '2.5': should be a whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "words"), TABLES)
def test_a_table_that_cannot_be_true_names_its_line(tmp_path: Path, table: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        read_log(written(tmp_path, {**WHOLE, "rounds": "rounds.csv"}, table))
    assert words in str(error.value)


def test_a_table_alone_is_not_a_log(tmp_path: Path) -> None:
    (tmp_path / "rounds.csv").write_text("round,client\n1,a\n")
    with pytest.raises(InputError, match="write the other facts in a YAML file"):
        read_log(tmp_path / "rounds.csv")


def drawn(seed: int, rate: float, people: int, count: int) -> dict[str, Any]:
    """Rounds whose cohorts really are Poisson draws."""
    import numpy as np

    generator = np.random.default_rng(seed)
    cohorts = [np.flatnonzero(generator.random(people) < rate).tolist() for _ in range(count)]
    return {"rounds": [{"round": n, "participants": c} for n, c in enumerate(cohorts, 1)], "last_round": count}


Change = Callable[[list[dict[str, Any]]], None]


def test_true_draws_are_believed_and_others_are_not(tmp_path: Path) -> None:
    for seed in range(5):
        rate = (0.02, 0.1, 0.5, 0.9, 1.0)[seed]
        log = {**WHOLE, "clients": 50, "sampling": poisson(rate), **drawn(seed, rate, 50, 40)}
        found = counted(tmp_path, log)
        (public,) = (g for g in found.privacy.guarantees if g.observer == "public")
        assert public.proven
    half = {**WHOLE, "clients": 50, "sampling": poisson(0.1), **drawn(1, 0.5, 50, 40)}
    with pytest.raises(InputError, match="sampling: unknown"):
        counted(tmp_path, half)
