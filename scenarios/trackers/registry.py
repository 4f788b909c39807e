"""Finished records -> TensorBoard or MLflow, where people already look. Optional libraries, imported on use only.

A cell is one run. What is there already, with the same numbers, is left alone; a run that was cut short or has other
numbers is written anew. So the same command twice, or a resumed sweep, never shows a cell twice.
"""

from __future__ import annotations

from pathlib import Path

from autoflip_secure.scenarios.trackers.base import Tracker


def trackers(tensorboard: Path | None, mlflow: str | None, sweep: str) -> list[Tracker]:
    """Those that were asked for, for the sweep of that name.

    Raises:
        InputError: the library is not installed (says how to install it).
        StoreError: the place cannot be used, or not for that sweep.
    """
    from autoflip_secure.scenarios.trackers.mlflow import Mlflow
    from autoflip_secure.scenarios.trackers.tensorboard import TensorBoard

    found: list[Tracker] = []
    if tensorboard is not None:
        found.append(TensorBoard(tensorboard))
    if mlflow is not None:
        found.append(Mlflow(mlflow, sweep))
    return found
