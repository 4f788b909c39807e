"""Workflows: this project's own, and those of docs/ci.md, which are also carried out as they stand there."""

import importlib
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import documented
import numpy as np
import pytest
import yaml
from sizes import sized
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
OWN = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NET = """
from torch import nn

def net(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_classes))
"""


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)


def documents() -> dict[str, Any]:
    """Every workflow by where it stands."""
    found = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in OWN}
    return found | {f"docs/ci.md, {number}": yaml.safe_load(text) for number, text in enumerate(fenced("yaml"))}


def steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in document.get("jobs", {}).values() for step in job["steps"]]


def scripts(document: dict[str, Any]) -> list[str]:
    """What shells are given, on GitHub and on GitLab."""
    gitlab = [line for job in document.values() if isinstance(job, dict) for line in job.get("script", [])]
    return [step["run"] for step in steps(document) if "run" in step] + gitlab


def calls(script: str) -> Iterator[list[str]]:
    """The commands of a script that are ours, or make's, as words."""
    for line in script.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:&&|\|\||;|\|)\s", line):
            words = shlex.split(part, comments=True)
            if words and words[0] in ("autoflip-secure", "make"):
                yield words


WORKFLOWS = documents()


def test_there_are_workflows() -> None:
    assert [path.name for path in OWN] == ["ci.yml"]
    assert sum("jobs" in document for document in WORKFLOWS.values()) == 2
    assert len(WORKFLOWS) == 5, "ours; two scenarios, the workflow and the GitLab job of docs/ci.md"


@pytest.mark.parametrize("name", [name for name, document in WORKFLOWS.items() if "jobs" in document])
def test_workflow_is_well_formed(name: str) -> None:
    document = WORKFLOWS[name]
    assert {"name", True, "permissions", "jobs"} <= set(document), "YAML 1.1 reads `on` as true"
    for job in document["jobs"].values():
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
    for step in steps(document):
        assert ("run" in step) != ("uses" in step), step
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/none@v1")), "pinned, and GitHub's own"
        assert "${{" not in step.get("run", ""), "values come through `env`, never as text of a script"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_call_exists(name: str) -> None:
    found = [words for script in scripts(WORKFLOWS[name]) for words in calls(script)]
    assert found or "seeds" in WORKFLOWS[name], "a workflow that calls nothing tests nothing"
    for words in found:
        documented.check_call(tuple(words))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_scripts_are_shell(name: str) -> None:
    for script in scripts(WORKFLOWS[name]):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), script


def test_own_workflow_tests_what_is_promised() -> None:
    document = yaml.safe_load(OWN[0].read_text(encoding="utf-8"))
    versions = document["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert versions == promised
    assert any(words[:2] == ["make", "test"] for script in scripts(document) for words in calls(script))
    assert "runs/demo/report.html" in OWN[0].read_text(encoding="utf-8")


def test_own_workflow_tests_both_ends_of_the_bounds() -> None:
    jobs = yaml.safe_load(OWN[0].read_text(encoding="utf-8"))["jobs"]
    pinned = {name: re.findall(r"make install(?: (\S+))?$", jobs[name]["steps"][2]["run"], re.MULTILINE)
              for name in ("test", "oldest", "newest", "locked")}  # fmt: skip
    assert pinned["test"] == ["CONSTRAINTS=.ci/tested.txt"]
    assert pinned["oldest"] == ["CONSTRAINTS=.ci/oldest.txt"]
    assert pinned["newest"] == [""], "whatever there is today"
    assert pinned["locked"] == ["LOCK=.ci/locked.txt"]
    versions = jobs["test"]["strategy"]["matrix"]["python-version"]
    assert jobs["oldest"]["steps"][1]["with"]["python-version"] == versions[0]
    assert jobs["newest"]["steps"][1]["with"]["python-version"] == versions[-1]


def test_no_package_index_is_named() -> None:
    """Where packages come from is the business of whoever installs."""
    places = [ROOT / name for name in ("Makefile", "pyproject.toml", "README.md", "CONTRIBUTING.md")]
    for folder, pattern in ((".ci", "*"), (".github", "**/*.yml"), ("docs", "*.md")):
        places += (ROOT / folder).glob(pattern)
    for path in places:
        found = re.findall(r"(?i)index[-_]url|find[-_]links|download\.pytorch|pypi\.org|pythonhosted|/simple\b",
                           path.read_text(encoding="utf-8"))  # fmt: skip
        assert not found, f"{path}: {found}"


# ------------------------------------------------------------------------------------------------ carried out


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository: the page's scenario and tests, a model and data of one's own."""
    digits = load_digits()
    x, y = (digits.images / 16).astype(np.float32), digits.target
    np.savez(tmp_path / "robustness.npz", x_train=x[:600], y_train=y[:600], x_test=x[600:900], y_test=y[600:900])
    (tmp_path / "my_models").mkdir()
    (tmp_path / "my_models" / "small.py").write_text(NET)
    scenario = fenced("yaml")[0]
    assert "seeds: {first: 100, count: 20}" in scenario
    (tmp_path / "robustness.yaml").write_text(scenario.replace("count: 20", f"count: {sized(2, 10)}"))
    (tmp_path / "test_robustness.py").write_text(fenced("python")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path, str(tmp_path)])
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    importlib.invalidate_caches()
    return tmp_path


@pytest.fixture
def run() -> Callable[[list[str]], Any]:
    return lambda words: CliRunner().invoke(app, words[1:])


@pytest.mark.slow
def test_the_page_carried_out(
    repository: Path, run: Callable[[list[str]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Baseline; the workflow on unchanged code passes; the page's own assertions hold on the results.

    In short with two seeds, which are too few for the assertions.
    """
    assert len(resolve(Document.parse(fenced("yaml")[0], "page")).cells) == 120
    for words in calls(fenced("sh")[1]):  # by hand; `gate init` is tests/stories/test_gate_story.py
        done = run(words)
        assert done.exit_code == 0, done.output
    assert (repository / "robustness.json").exists()

    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(repository / "summary.md"))
    workflow = next(document for name, document in WORKFLOWS.items() if name != "ci.yml" and "jobs" in document)
    for script in scripts(workflow):
        for words in calls(script):
            done = run(words)
            assert done.exit_code == 0, done.output
    upload = next(step for step in steps(workflow) if "upload-artifact" in step.get("uses", ""))
    for path in upload["with"]["path"].split():
        assert (repository / path).stat().st_size > 0, path
    suite = ET.parse(repository / "gate.xml").getroot()
    assert suite.tag in ("testsuites", "testsuite")
    assert (repository / "summary.md").read_text().strip() == (repository / "gate.md").read_text().strip() != ""

    from autoflip_secure.scenarios.testing.robustness import Robustness

    ask = Robustness(repository, repository / "cache")
    module: dict[str, Any] = {}
    exec(compile(fenced("python")[0], str(repository / "test_robustness.py"), "exec"), module)
    tests = [function for name, function in module.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests[: sized(0, 3)]:
        test(ask)
