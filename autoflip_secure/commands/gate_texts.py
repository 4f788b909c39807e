"""The files that ``gate init`` writes beside the baseline: a scenario and a workflow, as docs/ci.md shows them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

SCENARIO: dict[str, Any] = {
    "question": "Is this version as robust as the last one that we trusted?",
    "data": {"kind": "digits", "train_samples": 600, "test_samples": 300},
    "model": "mlp",
    "clients": 10,
    "cohort": 5,
    "rounds": 30,
    "training": {"epochs": 4, "batch_size": 16, "lr": 0.1},
    "exploration": {"epochs": 2},
    "seeds": {"first": 100, "count": 20},
    "sweep": {
        "product": {
            "attack": [
                "none",
                {"kind": "gaussian_noise", "sigma": 0.5, "scope": 0.2},
                {"kind": "label_flip", "share": 1.0, "scope": 0.2},
            ],
            "algorithm": ["fedavg", "autoflip"],
        }
    },
}
"""What a gate begins with: small enough for a runner, long enough that seeds agree within the margins."""
_COMMENTS = {
    "data": "yours, for example {kind: npz, path: my.npz}: autoflip-secure list datasets",
    "model": 'yours: "module.path:function", which returns an nn.Module',
    "rounds": "until accuracy has settled: before that seeds differ by more than the margins",
    "seeds": "every seed is a pair for the comparison; more seeds detect smaller differences",
    "sweep": 'your own code: attack: {kind: "pkg.mod:Class"}, algorithm: {name: autoflip, aggregator: …}',
}


class Workflow(StrEnum):
    """Where the workflow is for."""

    github = "github"
    gitlab = "gitlab"
    none = "none"


def workflow_file(kind: Workflow, name: str) -> Path | None:
    """The file, from the top folder of a repository; None: none is written."""
    return {
        Workflow.github: Path(".github") / "workflows" / f"{name}.yml",
        Workflow.gitlab: Path(f"{name}.gitlab-ci.yml"),
        Workflow.none: None,
    }[kind]


def workflow_text(kind: Workflow, name: str) -> str:
    """What is in it."""
    return (_GITHUB if kind is Workflow.github else _GITLAB).replace("NAME", name)


def scenario_text(written: Mapping[str, Any], name: str) -> str:
    """The scenario file: a key a line with what it is for.

    Args:
        written: keys and values.
        name: its first key, and what the comment at its top calls the baseline.
    """
    from autoflip_secure.scenarios.config.yaml_text import write_flow, write_yaml

    lines = [f"# The gate of this repository: `autoflip-secure sweep {name}.yaml`, then `autoflip-secure gate`.", ""]
    for key, value in {"name": name, **written}.items():
        lines += [f"# {_COMMENTS[key]}"] if key in _COMMENTS else []
        if key == "sweep":
            lines += write_yaml({key: value}).splitlines()
        else:
            lines.append(f"{key}: {write_flow(value)}")
    return "\n".join(lines) + "\n"


_INSTALL = '"autoflip-secure @ git+https://github.com/autoflip-secure/autoflip-secure"'
_GITHUB = f"""\
name: NAME

on:
  pull_request:
  push:
    branches: [main]

permissions:
  contents: read
  pull-requests: write    # for the comment at the end

jobs:
  NAME:
    runs-on: ubuntu-latest
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - name: Install    # torch without CUDA: a smaller download
        run: |
          pip install uv
          uv pip install --system --torch-backend=cpu {_INSTALL}
      - name: Sweep
        run: autoflip-secure sweep NAME.yaml --out runs/NAME
      - name: Gate
        # The Markdown goes into the summary of the workflow by itself: $GITHUB_STEP_SUMMARY is set there.
        run: autoflip-secure gate runs/NAME --baseline NAME.json --junit gate.xml --markdown gate.md
      - name: The report, to download
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: NAME
          path: |
            runs/NAME/report.html
            runs/NAME/results.csv
            gate.xml
            gate.md
      - name: The table, in the pull request
        if: always() && github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository
        env:
          GH_TOKEN: ${{{{ github.token }}}}
          NUMBER: ${{{{ github.event.pull_request.number }}}}
        run: |
          test -f gate.md
          gh pr comment "$NUMBER" --repo "$GITHUB_REPOSITORY" --edit-last --create-if-none --body-file gate.md
"""  # noqa: E501
_GITLAB = f"""\
NAME:
  image: python:3.12
  script:
    - pip install uv
    - uv pip install --system --torch-backend=cpu {_INSTALL}
    - autoflip-secure sweep NAME.yaml --out runs/NAME
    - autoflip-secure gate runs/NAME --baseline NAME.json --junit gate.xml --markdown gate.md
  artifacts:
    when: always
    paths: [runs/NAME/report.html, gate.md]
    reports:
      junit: gate.xml
"""
