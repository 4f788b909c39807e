"""The sweep of a results folder on seeds that it has not been run on: a results folder of its own inside the first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from autoflip_secure.errors import StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.fingerprints import input_digests
from autoflip_secure.scenarios.store.manifest import MORE_SEEDS, read_manifest
from autoflip_secure.scenarios.store.store import Store
from autoflip_secure.terminal.counting import some

_NAMED = 4
_ELSEWHERE = "gate a copy of the sweep in another folder"


def planned(folder: Path, seeds: Iterable[int]) -> Plan:
    """The scenario of a results folder on ``seeds`` instead of its own.

    Raises:
        InputError: the scenario cannot be read, or a seed cannot be used.
        StoreError: data or source are not what the folder was made from.
    """
    work = plan(load(folder / "scenario.yaml", [f"seeds={sorted(seeds)}"]))
    before = read_manifest(folder).get("inputs", {})
    now = input_digests(cell.settings for cell in work.cells)
    changed = [what for what, digest in now.items() if before.get(what, digest) != digest]
    if changed:
        raise StoreError(
            f"{folder}: {changed[0]} has changed since the sweep was run, so more seeds would be of other code; run "
            "the sweep again in a new folder"
        )
    return work


def run_more_seeds(folder: Path, work: Plan, workers: int | None, listener: Listener) -> list[RunRecord]:
    """Run what :func:`planned` gave, or what is missing of it; records in the order of the plan.

    Raises:
        StoreError: other seeds were run there before.
        AutoflipError: as of :func:`.run_sweep`.
    """
    inside = folder / MORE_SEEDS
    try:
        Store(inside, _ELSEWHERE).accept(work)
    except StoreError as error:
        if "\n  seeds:" not in str(error):
            raise
        seeds = some([*map(str, work.written["seeds"])], _NAMED)
        raise StoreError(
            f"{inside}: holds other seeds than {seeds}, of an earlier --more-seeds; run the sweep on all seeds of the "
            "baseline in a folder of its own, and give that to the gate"
        ) from error
    return run_sweep(work, inside, workers, listener, elsewhere=_ELSEWHERE).records
