"""A whole report of private runs, searched: nothing in it promises more than the ledgers of its runs prove.

The runs: a target that is kept, one that the ledger went above, central noise (nothing holds against the server), a
target without any guarantee, and noise of the clients' own. The proven numbers are such that rounding to the nearest
would print less than is proven.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoflip_secure.records.privacy import (
    OBSERVERS,
    ClientEpsilon,
    Guarantee,
    Observer,
    PrivacyRecord,
    Relation,
    Release,
)
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline import effective_margins, make_baseline
from autoflip_secure.reports.gate.files import junit_xml, summary
from autoflip_secure.reports.gate.gate import run_gate
from autoflip_secure.reports.gate.output import lines
from autoflip_secure.reports.pages.report import write_report

Make = Callable[..., RunRecord]
EPSILON, DELTA = 1.2301, 6.9444e-4  # to the nearest: 1.23 and 0.00069, which is less than is proven
SAMPLE, CLIENT = {"kind": "sample_level", "clip": 1.0}, {"kind": "client_level", "clip": 1.0}
ZERO: Relation = "zero out one client"
ADD: Relation = "add or remove one client"
SAMPLES: Relation = "zero out one sample"
Against = dict[Observer, tuple[Relation, float | None]]
# name: the setting, and what is proven against whom
SETTINGS: dict[str, tuple[dict[str, Any], Against]] = {
    "kept": (SAMPLE | {"target_epsilon": 4.0}, dict.fromkeys(OBSERVERS, (SAMPLES, EPSILON))),
    "above": (SAMPLE | {"target_epsilon": 0.75}, dict.fromkeys(OBSERVERS, (SAMPLES, 3.1234))),
    "central": (
        CLIENT | {"noise": "central", "target_epsilon": 5.0},
        {"server": (ZERO, None), "public": (ADD, 4.7251), "another client": (ADD, 4.8149)},
    ),
    "unproven": (
        CLIENT | {"noise": "central", "target_epsilon": 7.0, "allow_unproven": True},
        {"server": (ZERO, None), "public": (ADD, None), "another client": (ADD, None)},
    ),
    "own": (
        CLIENT | {"noise": "distributed", "noise_multiplier": 2.0},
        {"server": (ZERO, 386.2), "public": (ADD, 8.904), "another client": (ADD, 9.1049)},
    ),
}  # fmt: skip
PROVEN = [e for _, against in SETTINGS.values() for _, e in against.values() if e is not None]
TARGETS = [setting["target_epsilon"] for setting, _ in SETTINGS.values() if "target_epsilon" in setting]


def ledger(against: Against, delta: float = DELTA) -> PrivacyRecord:
    """What a run of two releases would leave; half of each epsilon is the updates' own."""
    guarantees = []
    for observer, (relation, epsilon) in against.items():
        release = Release(
            name="updates", observer=observer, client=None, first_round=1, last_round=2, mechanism="gaussian",
            relation=relation, sampling="none" if observer == "server" else "poisson", rate=0.25, population=20,
            steps=2, noise_multiplier=1.98765, reason="" if epsilon is not None else "there is <no> proof",
            post_processing=[],
        )  # fmt: skip
        before = release.model_copy(update={"name": "exploration", "first_round": 0, "last_round": 0})
        alone = None if epsilon is None else 0.5 * epsilon
        entry = ClientEpsilon(client=None, delta=delta, rdp=epsilon, prv=None, training=alone)
        guarantees.append(
            Guarantee(
                observer=observer, relation=relation, proven=epsilon is not None, reason=release.reason or "trust",
                releases=[before, release],
                clients=[] if epsilon is None else [entry],
                over_rounds=[] if epsilon is None else [(0, 0.5 * epsilon), (2, epsilon)],
            )
        )  # fmt: skip
    return PrivacyRecord(unit="client", noise_multipliers=[2.0], guarantees=guarantees, attempts=2, notes=[])


@pytest.fixture(scope="module")
def runs(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> list[RunRecord]:
    """FedAvg and AutoFLIP, without privacy and under every setting."""
    found = []
    for name in ("fedavg", "autoflip"):
        for setting, against in [(None, None), *SETTINGS.values()]:
            made = record(name, partition["iid"], attack["clean"](), 0, rounds=2, privacy=setting or {"kind": "none"})
            found.append(made if against is None else made.model_copy(update={"privacy": ledger(against)}))
    return found


@pytest.fixture(scope="module")
def files(runs: list[RunRecord], scenario: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promises")
    write_report(runs, scenario, folder / "report.html")
    return folder


def shown(files: Path) -> dict[str, str]:
    """What a reader sees, tables included; data to download apart, for it has every digit."""
    page = re.sub(r"<(style|script)\b.*?</\1>", " ", (files / "report.html").read_text(), flags=re.DOTALL)
    page = re.sub(r"<details>\s*<summary>[^<]*configuration.*?</details>", " ", page, flags=re.DOTALL | re.IGNORECASE)
    labels = " \n".join(re.findall(r'(?:aria-label|alt)="([^"]*)"', page))
    return {"html": re.sub(r"<[^>]*>", "\n", page) + labels, "md": (files / "report.md").read_text()}


def gated(runs: list[RunRecord]) -> str:
    """Everything that the gate says of the runs, one of which has lost its guarantee."""
    held = make_baseline(runs, "test", "then", effective_margins({}, []))
    worse = [r.model_copy(update={"privacy": ledger(SETTINGS["unproven"][1])}) if r is runs[1] else r for r in runs]
    result = run_gate(worse, held, held.margins)
    assert result.exit_code == 1
    return "\n".join([*lines(result), summary(result), junit_xml(result), held.text()])


def blocks(files: Path) -> Iterator[str]:
    """The texts that a reader takes in one piece: paragraphs, list items, captions, cells of Markdown."""
    page = (files / "report.html").read_text()
    for found in re.findall(r"<(p|li|figcaption)\b[^>]*>(.*?)</\1>", page, flags=re.DOTALL):
        yield re.sub(r"<[^>]*>", "", found[1])
    yield from (files / "report.md").read_text().split("\n\n")


def test_a_bound_is_never_made_of_a_target(files: Path, runs: list[RunRecord]) -> None:
    for text in (*shown(files).values(), gated(runs)):
        claimed = [float(number) for number in re.findall(r"ε\s*≤\s*([\d.]+\d)", text)]
        assert not set(claimed) & set(TARGETS)
        assert not re.search(r"ε\s*<", text)
    assert any("ε ≤" in text for text in shown(files).values())


def test_every_bound_stands_with_its_observer_neighbours_and_delta(files: Path) -> None:
    for text in blocks(files):
        if re.search("ε\\s*≤", text):
            assert re.search(r"against (the server|the public|another client)", text, re.IGNORECASE), text
            assert any(relation in text for relation in (SAMPLES, ZERO, ADD)), text
            assert "δ = 0.0007" in text, text


@pytest.mark.parametrize("epsilon", PROVEN)
def test_nothing_below_what_is_proven_is_printed(epsilon: float, files: Path, runs: list[RunRecord]) -> None:
    """Rounded to the nearest, with three digits and more, and cut off: 386.2 is 387 or 386.2, never 386."""
    low = (
        {f"{epsilon:.{n}f}" for n in (2, 3)} | {f"{epsilon:.{n}g}" for n in (3, 4, 5)} | {repr(epsilon)[:4].rstrip(".")}
    )
    below = [text for text in low if float(text) < epsilon]
    assert below
    for text in (*shown(files).values(), gated(runs)):
        for number in below:
            assert not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", text), (number, epsilon)
        assert not re.search(r"0\.00069(?!\d)|0\.000694(?!\d)|6\.9e-0?4", text)


def test_no_guarantee_stands_wherever_there_is_none(files: Path, runs: list[RunRecord]) -> None:
    """A target is never without the mark; nothing is said to hold against the server under central noise."""
    for text in (*shown(files).values(), gated(runs)):
        assert "target ε 7" in text
        assert len(re.findall(r"target ε\s7", text)) == len(re.findall(r"no\s+guarantee,\s+target ε\s7", text)) + len(
            re.findall(r"(?m)^\s*target ε 7\s*$", text)  # the column "asked for" of the table
        )
        assert len(re.findall(r"target ε\s5", text)) == len(
            re.findall(r"no\s+guarantee\s+against\s+the\s+server,\s+target ε\s5", text)
        ) + len(re.findall(r"(?m)^\s*target ε 5\s*$", text))
    html = shown(files)["html"]
    assert "Against the server, the public and another client: no guarantee: there is" in html
    assert "Against the server: no guarantee: there is" in html
    assert re.search(r"no\s+guarantee", re.sub(r"[^a-z]+", " ", html.split("Accuracy against epsilon")[1]))  # its tick


def test_the_reader_is_told_first(files: Path) -> None:
    for text in shown(files).values():
        caveats = text.split("Keep in mind")[1]
        assert re.search(r"2 of 10 private runs have no guarantee \(", caveats)
        assert re.search(r"2 of 10 private runs have no guarantee against the server \(", caveats)
        assert re.search(r"Above their target: FedAvg · single samples, target ε.0\.75; AutoFLIP", caveats)
        assert re.search(r"the target is 0\.75, and the ledger proves ε ≤ 3\.13 against the server", caveats)
        assert "Every epsilon is that of one cell" in caveats
    assert "Above the target of 0.75 against the server, another client and the public" in shown(files)["html"]


def test_secret_cohorts_are_named_where_the_number_stands(files: Path) -> None:
    found = [text for text in blocks(files) if "4.82" in text and "ε ≤" in text]
    assert found
    assert all("secret" in text or "does not learn who takes part" in text for text in found)
    assert "Poisson, 25 %, secret cohorts" in shown(files)["html"]


def test_tables_to_download_carry_the_terms_and_every_digit(files: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((files / "results.csv").read_text())))
    for name, (setting, against) in SETTINGS.items():
        target = setting.get("target_epsilon")
        words = f"target ε {target:g}" if target else "σ 2"
        own = [row for row in rows if row["privacy"].endswith(words)]
        assert len(own) == 4, name
        for row in own:
            for observer, (relation, epsilon) in against.items():
                cells = [
                    row[f"{what}.{observer.replace(' ', '_')}"]
                    for what in ("guarantee", "epsilon", "delta", "neighbours")
                ]
                expected = ["no", "", "", ""] if epsilon is None else ["yes", repr(epsilon), repr(DELTA), relation]
                assert cells == expected
    bare = [row for row in rows if row["privacy"] == "no privacy"]
    assert {(row["guarantee.server"], row["epsilon.public"]) for row in bare} == {("no", "")}
