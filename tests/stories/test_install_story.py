"""The README's first minutes, from the installed wheel: every command of its page, in its order, far from the tree."""

import csv
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from built_wheel import ROOT, Program, clean

README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = ("--set", "rounds=2", "--set", "seeds=[10]", "--set", "clients=4", "--set", "cohort=2", "--workers", "1")


def section(heading: str) -> str:
    return README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def commands(text: str) -> Iterator[list[str]]:
    """The first block's commands, as words, without what is said beside them."""
    block = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    for line in block.splitlines():
        words = shlex.split(re.split(r"\s{3,}", line)[0])
        assert words[0] == "autoflip-secure"
        yield words[1:]


@pytest.mark.slow
def test_the_first_minutes_of_the_readme(program: Program, tmp_path: Path) -> None:
    """List, one component, a scenario, its sweep (in small), its report; and the page's scenario instead of it."""
    told = section("First minutes")
    seen = []
    for words in commands(told):
        done = program(*words, *(SMALL if words[0] == "sweep" else ()))
        seen.append((words[0], done.stdout))
    assert [name for name, _ in seen] == ["list", "list", "init", "sweep", "report"]
    assert "label_flip" in seen[0][1]
    assert "share" in seen[1][1]
    folder = tmp_path / "runs" / "my"
    for name in ("report.html", "report.md", "cells.csv", "results.csv"):
        assert (folder / name).stat().st_size > 100, name
    assert folder.joinpath("report.html").as_uri() in seen[4][1]

    (scenario,) = re.findall(r"^```yaml\n(.*?)^```$", told, re.MULTILINE | re.DOTALL)
    (tmp_path / "question.yaml").write_text(scenario)
    assert "8 cells: 8 run" in program("sweep", "question.yaml", *SMALL, "--no-report").stdout


@pytest.mark.slow
def test_the_python_of_the_readme(installed: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", section("First minutes"), re.MULTILINE | re.DOTALL)
    small = code.replace("rounds=20", "rounds=1, seeds=[10], tune=None, workers=1")
    assert small != code
    (tmp_path / "noise.py").write_text(f"{small}\nassert len(results.frame()) > 2\n")
    command = [str(installed / "python"), "noise.py"]
    done = subprocess.run(command, cwd=tmp_path, env=clean(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "noise.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo(program: Program, tmp_path: Path) -> None:
    """All of it: what `make demo` and the container run."""
    done = program("demo")
    report = tmp_path / "runs" / "demo" / "report.html"
    assert report.as_uri() in done.stdout
    table = section("What the demo shows")
    (accuracy,) = re.findall(r"^\| IID \| nobody \| ([\d.]+)", table, re.MULTILINE)
    with (tmp_path / "runs" / "demo" / "cells.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 150
    clean_iid = ("fedavg", "IID", "no attack")
    plain = [
        float(row["outcome_accuracy"])
        for row in rows
        if (row["algorithm"], row["partition"], row["attack"]) == clean_iid
    ]
    assert len(plain) == 5
    assert abs(100 * sum(plain) / 5 - float(accuracy)) <= 0.5, "0.1 apart on another kind of kernels"
