"""``autoflip-secure account``: what it says, writes and refuses, and its exit codes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_audits import command
from sizes import every

LOG = """\
name: {name}
unit: client
delta: 1e-5
clients: 100
noise: central
aggregate: sum
secure_sum: false
settings: {settings}
sampling: unknown
clip: 1.0
noise_multiplier: 4.0
last_round: 2
rounds:
  - {{round: 1, participants: [a, "{client}"]}}
  - {{round: 2, participants: [a]}}
"""


def ward(folder: Path, name: str = "Ward 7", settings: str = "in advance", client: str = "b") -> str:
    (folder / "ward.yaml").write_text(LOG.format(name=name, settings=settings, client=client))
    return "ward.yaml"


def test_the_answer_the_page_and_the_table(tmp_path: Path) -> None:
    told = command("account", ward(tmp_path), "--out", "page.html", "--clients", "clients.csv", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert re.search(r"the server +no guarantee", told.stdout)
    assert re.search(r"the public +<= 1\.3\d +1e-05 +zero out one client", told.stdout), told.stdout
    assert "client a pays most" in told.stdout
    page = (tmp_path / "page.html").read_text()
    for words in ("What may be said", "There is no guarantee against the server", "What is not covered", "Signature",
                  "SHA-256 of ward.yaml", "who answers for it", "neighbours: zero out one client"):  # fmt: skip
        assert words in page
    with (tmp_path / "clients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["client"], row["observer"]) for row in rows if row["guarantee"] == "yes"} == {
        (client, observer) for client in "ab" for observer in ("public", "another client")
    }
    found: dict[str, Any] = json.loads(command("account", "ward.yaml", "--json", folder=tmp_path).stdout)
    (public,) = (g for g in found["privacy"]["guarantees"] if g["observer"] == "public")
    known = {entry["client"]: entry["prv"] for entry in public["clients"]}
    assert float(next(r["epsilon"] for r in rows if r["client"] == "a" and r["epsilon"])) <= known[0]


@pytest.mark.parametrize(
    ("arguments", "code"),
    every(
        3,
        [
            (("--at-most", "2"), 0),
            (("--at-most", "1"), 1),
            (("--at-most", "2", "--against", "server"), 1),
            (("--at-most", "2", "--against", "another-client"), 0),
            (("--at-most", "-1"), 2),
            (("--against", "public"), 2),
            (("--out", "page.txt"), 2),
            (("--clients", "ward.yaml"), 2),
        ],
    ),
)
def test_exit_codes(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    told = command("account", ward(tmp_path), *arguments, folder=tmp_path)
    assert told.returncode == code, told.stdout + told.stderr
    assert "Traceback" not in told.stderr
    assert ("FAILED" in told.stdout) == (code == 1)


def test_nothing_proven_is_exit_code_2(tmp_path: Path) -> None:
    told = command("account", ward(tmp_path, settings="from results"), "--out", "page.html", folder=tmp_path)
    assert told.returncode == 2
    assert told.stdout.count("no guarantee") == 3
    assert "nothing is proven about the privacy" in (tmp_path / "page.html").read_text()


def test_names_from_the_log_stay_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    log = ward(tmp_path, name=f"'{hostile}'", client=f"=cmd {hostile}")
    told = command("account", log, "--out", "page.html", "--clients", "clients.csv", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "<script>alert" not in (tmp_path / "page.html").read_text()
    assert "\n=cmd" not in (tmp_path / "clients.csv").read_text()
    assert ",=cmd" not in (tmp_path / "clients.csv").read_text()


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    text = (tmp_path / ward(tmp_path)).read_text()
    for changed, words in (
        (text.replace("last_round: 2", "last_round: 4"), "2 rounds of 1 to 4 missing"),
        (text.replace("multiplier: 4.0", "multiplier: -4.0"), "ward.yaml:11: noise_multiplier = -4.0"),
        (text.replace("participants: [a]", "participants: [a, a]"), "ward.yaml:15: client 'a' takes part twice"),
        ("", "is empty"),
    ):
        (tmp_path / "ward.yaml").write_text(changed)
        told = command("account", "ward.yaml", folder=tmp_path)
        assert told.returncode == 2
        assert words in told.stderr.replace("\n", " "), told.stderr
        assert "Traceback" not in told.stderr
    assert command("account", "nowhere.yaml", folder=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("sampling", "named"), [("kind: fixed, cohort: 20", True), ("kind: poisson, rate: 0.05", False)]
)
def test_cohorts_of_a_fixed_size_rest_on_clients_that_remember_nothing(
    tmp_path: Path, sampling: str, named: bool
) -> None:
    text = LOG.format(name="Ward 7", settings="in advance", client="b").split("last_round")[0]
    text = text.replace("clients: 100", "clients: 400")
    text = text.replace("sampling: unknown", f"sampling: {{{sampling}, secret_from: [public]}}")
    came = "".join(
        f"  - {{round: {number}, participants: {20 + number % 2 * (not named)}}}\n" for number in range(1, 11)
    )
    (tmp_path / "ward.yaml").write_text(f"{text}last_round: 10\nrounds:\n{came}")
    told = command("account", "ward.yaml", "--out", "page.html", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert ("does not depend on the rounds that it was in before" in (tmp_path / "page.html").read_text()) == named


def test_where_nothing_was_released_nothing_else_is_said(tmp_path: Path) -> None:
    """Neither that there is no guarantee, nor that a limit is not kept."""
    text = LOG.format(name="Ward 7", settings="in advance", client="b").partition("rounds:")[0]
    text = text.replace("noise: central", "noise: distributed")
    (tmp_path / "ward.yaml").write_text(f"{text}rounds:\n  - {{round: 1, participants: []}}\n"
                                        "  - {round: 2, participants: []}\n")  # fmt: skip
    told = command("account", "ward.yaml", "--out", "page.html", "--at-most", "1", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "the server: no client sent anything in these rounds" in told.stdout
    page = (tmp_path / "page.html").read_text()
    assert "Ward 7: nothing was released about one client" in page
    assert "No client sent anything in these rounds." in page
    assert "no guarantee" not in page
    assert "finite" not in page


@pytest.mark.parametrize(
    ("second", "words"),
    every(
        1,
        [
            ("[a, b]}\n  - {round: 3, participants: [c]", "; client a and 1 more pay most\n"),
            ("[c, d]", "do not collude\n"),
        ],
    ),
)
def test_one_client_pays_most_only_where_there_is_one(tmp_path: Path, second: str, words: str) -> None:
    """Of two that pay alike neither does; where everybody pays alike nobody is named."""
    text = LOG.format(name="Ward 7", settings="in advance", client="b").replace("noise: central", "noise: distributed")
    text = text.replace("2, participants: [a]", f"2, participants: {second}")
    (tmp_path / "ward.yaml").write_text(text.replace("last_round: 2", f"last_round: {text.count(chr(123))}"))
    told = command("account", "ward.yaml", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert words in told.stdout
    assert "client a pays most" not in told.stdout


def test_a_trusted_server_saw_a_client_as_often_as_it_took_part(tmp_path: Path) -> None:
    """Every client had a row that said that it sent something in every round."""
    command("account", ward(tmp_path), "--clients", "clients.csv", folder=tmp_path)
    with (tmp_path / "clients.csv").open() as file:
        rows = {row["client"]: row for row in csv.DictReader(file) if row["observer"] == "server"}
    assert {client: row["releases"] for client, row in rows.items()} == {"a": "2", "b": "1"}
    assert {row["released"] for row in rows.values()} == {
        "updates: 2 steps, without noise", "updates: 1 step, without noise"
    }  # fmt: skip
