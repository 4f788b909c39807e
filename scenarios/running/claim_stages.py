"""Which scenarios the claims of the paper need, and how much of each: the presets, in full or quick.

All algorithms train at one learning rate, as the paper's seem to, but for rivals, each of which has its own;
``--set tune=…`` gives all of them theirs.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.config.sources import presets, read_source
from autoflip_secure.terminal.near_names import suggest

_TWO = "sweep.partition=[iid, {kind: pathological, classes_per_client: 2}]"
_TEN, _TWENTY = "seeds={first: 10, count: 10}", "seeds={first: 10, count: 20}"
_BOTH, _OWN, _ALIKE = "sweep.algorithm=[fedavg, autoflip]", "sweep.algorithm=[autoflip]", "tune=null"


@dataclass(frozen=True)
class ClaimStage:
    """A preset, and what is changed of it."""

    scenario: str
    quick: tuple[str, ...]
    full: tuple[str, ...]

    def overrides(self, *, quick: bool) -> tuple[str, ...]:
        """``key=value`` of ``--set``."""
        return self.quick if quick else self.full


STAGES = (
    ClaimStage("falsifier", (_TEN,), ()),
    ClaimStage("rivals", (_TEN,), (_TWENTY,)),
    ClaimStage("personal", (_TEN, "sweep.algorithm=[fedavg, autoflip, fedmask]"), (_TWENTY,)),
    ClaimStage(
        "noise_magnitude",
        (_ALIKE, _TEN, _TWO, _BOTH, "sweep.attack.sigma=[0.1, 0.5]"),
        (_ALIKE, _TWENTY, _BOTH),
    ),
    ClaimStage(
        "noise_scope",
        (_ALIKE, _TEN, _TWO, _BOTH, "sweep.attack.sigma=[0.1]", "sweep.attack.scope=[0.4]"),
        (_ALIKE, _TWENTY, _BOTH),
    ),
    ClaimStage(
        "label_flip",
        (_ALIKE, _TEN, _TWO, _OWN, "sweep.attack.share=[0.3]"),
        (_ALIKE, _TWENTY, _BOTH, "sweep.attack.share=[0.3]"),
    ),
    ClaimStage(
        "explorers",
        (_ALIKE, _TEN, _TWO, _OWN, "sweep.attack=[none]", "sweep.exploration.explorers=[1, 5]"),
        (_ALIKE, _TWENTY, _OWN, "sweep.attack=[none]", "sweep.exploration.explorers=[1, 3, 5, 10]"),  # and all clients
    ),
    ClaimStage(
        "threshold",
        (_ALIKE, _TEN, "sweep.partition=[{kind: pathological, classes_per_client: 2}]", _OWN,
         "sweep.algorithm.pruner.threshold=[0.1, 0.3, 0.5]"),
        (_ALIKE, _TWENTY, _OWN),
    ),
    ClaimStage("stability", (_TEN, _TWO), (_TWENTY,)),
    ClaimStage("reexploration", (_TEN, _TWO, _OWN), (_TWENTY, _OWN)),
)  # fmt: skip
"""In the order in which they run: what would refute the paper first."""


@dataclass(frozen=True)
class PlannedStage:
    """A scenario that is about to run."""

    scenario: str
    plan: Plan
    folder: Path
    command: str  # that runs it alone


def planned_stages(
    folder: Path, overrides: Sequence[str], *, quick: bool, only: Sequence[str] = ()
) -> tuple[list[PlannedStage], dict[str, str]]:
    """All scenarios with their changes, checked before any runs; and why others are not run, by name.

    Args:
        folder: every scenario has a results folder of its own in it.
        overrides: ``--set`` of the user, after those of a stage.
        quick: little of each.
        only: names of the scenarios that are wanted; none: all.

    Raises:
        InputError: a name that is none of them, or a change that does not go with one.
    """
    here = [stage for stage in STAGES if stage.scenario in presets()]
    names = {stage.scenario for stage in here}
    for name in only:
        if name not in names:
            raise InputError(f"--only {name}: no claim needs a scenario of that name; {suggest(name, names)}")
    found, absent = list[PlannedStage](), dict[str, str]()
    for stage in STAGES:
        name = stage.scenario
        if stage not in here:
            absent[name] = f"This version has no scenario {name}."
        elif only and name not in only:
            absent[name] = f"The scenario {name} was not asked for (--only)."
        else:
            changes = [*stage.overrides(quick=quick), *overrides]
            try:
                work = plan(resolve(read_source(name), changes))
            except InputError as error:
                raise InputError(f"scenario {name}: {error}") from None
            sets = [part for change in changes for part in ("--set", change)]
            command = shlex.join(["autoflip-secure", "sweep", name, *sets, "--out", str(folder / name)])
            found.append(PlannedStage(name, work, folder / name, command))
    return found, absent
