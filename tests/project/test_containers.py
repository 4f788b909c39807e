"""The Dockerfile and what opens it: official images alone, an ordinary user, and the commands of the README."""

import json
import re
import subprocess
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
DEVCONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


@dataclass
class Stage:
    """A stage of a Dockerfile: the image it starts from, and its instructions in order."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]


def stages(text: str) -> dict[str, Stage]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, rest = line.split(None, 1)
        if name == "FROM":
            base, _, own = rest.split()
            found[own] = Stage(base)
        else:
            found[list(found)[-1]].steps.append((name, rest))
    return found


STAGES = stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def whole(name: str) -> list[tuple[str, str]]:
    """The instructions of a stage, those of its bases first."""
    stage = STAGES[name]
    return [*(whole(stage.base) if stage.base in STAGES else []), *stage.steps]


def test_only_official_images_are_named() -> None:
    named = {stage.base for stage in STAGES.values() if stage.base not in STAGES}
    assert len(named) == 1
    image, version = re.fullmatch(r"python:((3\.\d+)-slim)", named.pop()).groups()  # type: ignore[union-attr]
    assert f"Programming Language :: Python :: {version}" in (ROOT / "pyproject.toml").read_text(), image


@pytest.mark.parametrize("path", ["Dockerfile", ".devcontainer/devcontainer.json", ".dockerignore"])
def test_no_host_is_named(path: str) -> None:
    assert not re.search(r"://|\w\.(com|org|io|net|dev)\b", (ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["development", "program"])
def test_both_end_as_an_ordinary_user_whose_folder_it_is(name: str) -> None:
    steps = whole(name)
    assert [text for kind, text in steps if kind == "USER"] == ["researcher"]
    last = max(number for number, (kind, _) in enumerate(steps) if kind == "RUN")
    assert ("USER", "researcher") in steps[last:], "what is installed belongs to root"
    made = " ".join(text for kind, text in steps if kind == "RUN")
    assert "useradd --create-home --uid 1000 researcher" in made
    assert [text for kind, text in steps if kind == "WORKDIR"] == ["/results"]
    assert "install --directory --owner researcher /results" in made


def test_commands_are_shell() -> None:
    for stage in STAGES.values():
        for text in stage.all("RUN"):
            script = re.sub(r"^(--mount=\S+\s+)*", "", text)
            done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), script


def test_the_program_is_installed_as_the_readme_says_and_runs_the_demo() -> None:
    (command,) = re.findall(r"^uv pip install (--torch-backend=cpu) \.$", README, re.MULTILINE)
    program = STAGES["program"]
    assert list(STAGES)[-1] == "program", "what `docker build` makes when no stage is named"
    assert re.search(rf"uv pip install --system .*{command} /source$", program.all("RUN")[-1])
    assert json.loads(program.all("ENTRYPOINT")[-1]) == ["autoflip-secure"]
    assert json.loads(program.all("CMD")[-1]) == ["demo"]


def test_the_calls_of_the_page_are_those_of_ci() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    calls = re.findall(r"^docker (?:build|run --name|cp) .*?(?=\s{3,}|$)", page, re.MULTILINE)
    assert len(calls) == 3
    assert [call for call in calls if call not in WORKFLOW] == []


def test_the_environment_to_work_in() -> None:
    build = DEVCONTAINER["build"]
    home = ROOT / ".devcontainer"
    assert (home / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (home / build["context"]).resolve() == ROOT
    assert build["target"] in STAGES
    assert ("USER", DEVCONTAINER["remoteUser"]) in STAGES[build["target"]].steps
    make, target = DEVCONTAINER["postCreateCommand"].split()
    assert make == "make"
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (environment,) = STAGES[build["target"]].all("ENV")
    assert re.search(r'INSTALLER="(.*?)"', environment)[1] in WORKFLOW  # type: ignore[index]
    for tool in ("git", "make", "chromium"):
        assert re.search(rf"apt-get install .*\b{tool}\b", STAGES[build["target"]].all("RUN")[0])


def test_what_git_ignores_stays_out_of_the_image_and_what_the_wheel_needs_goes_in() -> None:
    left_out = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split()]
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    assert not [name for name in ignored if not any(fnmatch(name, one) for one in left_out)]
    needed = {
        "attacks",
        "autoflip_secure",
        "defenses",
        "scenarios",
        "reports",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }
    assert not [top for top in needed if any(fnmatch(top, one) for one in left_out)]
