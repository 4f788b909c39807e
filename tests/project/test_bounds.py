"""Bounds of dependencies are what was tested: pyproject.toml and the pins of CI say the same."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
"""What a user may install; `test` and `docs` are for whoever works on this, `wandb`, tried by hand, is in no job, and
`flower` and `ray` are in jobs of their own: the first does not go with the versions that are tested, the second is
large."""
OURS = ("test", "docs", "wandb", "flower", "ray")
ALLOWED = [
    Requirement(text)
    for text in [*PROJECT["dependencies"], *(text for name in EXTRAS if name not in OURS for text in EXTRAS[name])]
]
TOOLS = [Requirement(text) for text in EXTRAS["test"] if not text.startswith("autoflip-secure[")]
PYTHONS = [line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if "Python :: 3." in line]

_ONLY_BETAS = "opentelemetry-semantic-conventions"  # has no other releases; MLflow needs it


def bound(requirement: Requirement, operator: str) -> Version | None:
    found = [Version(part.version) for part in requirement.specifier if part.operator == operator]
    assert len(found) <= 1, f"{requirement}: one bound of a kind"
    return found[0] if found else None


def pins(name: str, python: str) -> dict[str, Version]:
    """What a file of pins says to one Python."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / ".ci" / name).read_text(encoding="utf-8").splitlines()]
    asked = [Requirement(line) for line in lines if line]
    valid = [one for one in asked if one.marker is None or one.marker.evaluate({"python_version": python})]
    assert len({one.name for one in valid}) == len(valid), f".ci/{name}: a name twice"
    assert all(bound(one, "==") for one in valid), f".ci/{name}: pins only"
    return {one.name: Version(str(bound(one, "=="))) for one in valid}


def locked(python: str) -> dict[str, Version]:
    """What the lock says to one Python on Linux; every package has hashes, and none has an address."""
    text = (ROOT / ".ci" / "locked.txt").read_text(encoding="utf-8")
    found = {}
    for entry in re.split(r"\n(?=\S)", text.replace("\\\n", " ")):
        line, *hashes = entry.split(" --hash=")
        if line.startswith("#"):
            continue
        assert hashes, f"{line}: without a hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one.strip()) for one in hashes), line
        pinned = Requirement(line.strip())
        assert pinned.url is None
        system = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
        if pinned.marker is None or pinned.marker.evaluate(system):
            assert pinned.name not in found, f"{pinned.name}: twice for Python {python}"
            found[pinned.name] = Version(str(bound(pinned, "==")))
    return found


def test_lower_bounds_are_the_oldest_that_are_tested() -> None:
    assert pins("oldest.txt", PYTHONS[0]) == {one.name: bound(one, ">=") for one in ALLOWED}


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_tested_is_allowed(python: str) -> None:
    tested = pins("tested.txt", python)
    assert set(tested) == {one.name for one in ALLOWED}
    assert not [str(one) for one in ALLOWED if tested[one.name] not in one.specifier]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_what_is_tested_and_allowed(python: str) -> None:
    """`make lock` writes it again."""
    lock = locked(python)
    names = {canonicalize_name(name): version for name, version in pins("tested.txt", python).items()}
    assert {name: lock.get(name) for name in names} == names
    wanted = [one for one in [*ALLOWED, *TOOLS] if one.marker is None or one.marker.evaluate()]
    assert not [str(one) for one in wanted if lock[canonicalize_name(one.name)] not in one.specifier]
    assert not [name for name, version in lock.items() if version.is_prerelease and name != _ONLY_BETAS]


def test_the_lock_names_no_address() -> None:
    text = (ROOT / ".ci" / "locked.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*--(?!hash=)| @ ", text, re.MULTILINE)


def test_an_upper_bound_is_the_major_after_the_tested_one() -> None:
    """So that nothing is allowed two majors away from what anybody tried, nor refused for no reason."""
    tested = pins("tested.txt", PYTHONS[-1])
    for one in ALLOWED:
        upper = bound(one, "<")
        assert upper is None or upper == Version(str(tested[one.name].major + 1)), one


@pytest.mark.parametrize("requirement", ALLOWED, ids=lambda one: one.name)
def test_what_is_installed_is_allowed(requirement: Requirement) -> None:
    assert version(requirement.name) in requirement.specifier


def test_pythons_are_those_that_are_required() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert [f"3.{minor}" for minor in range(int(PYTHONS[0][2:]), int(PYTHONS[-1][2:]) + 1)] == PYTHONS, "no gap"
