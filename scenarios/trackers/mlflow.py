"""MLflow: an experiment named after the sweep, one run per cell with parameters, metrics per round, and tags.

A run begins when its cell's first rounds have ended, and its metrics grow while the cell runs. The tag
``autoflip.group`` is the same for all seeds of a setting.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.files.first_bytes import glance, instead
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.trackers.base import Tracker, Written, missing
from autoflip_secure.scenarios.trackers.flattened import Begun, Series, Track, begins, points, track
from autoflip_secure.terminal.near_names import nearby

_METRICS, _PARAMETERS = 1000, 100  # what MLflow takes at once
_ALLOW = "MLFLOW_ALLOW_FILE_STORE"  # without it, MLflow 3 refuses plain folders
_LONGEST = 500  # characters of a parameter that every MLflow server takes


class Mlflow(Tracker):
    """An experiment named after the sweep, one run per cell, live: parameters, metrics per round, tags."""

    live: ClassVar[bool] = True

    def __init__(self, place: str, sweep: str) -> None:
        """Look whether ``sweep`` can be written: that the place is one, and its experiment has not been deleted."""
        uri = place
        if (sentence := _no_database(uri)) is not None:
            raise StoreError(f"--mlflow {uri}: {sentence}")
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise InputError(missing("--mlflow", "mlflow", error)) from error
        self.uri = uri
        self._shown: dict[str, _Shown] = {}  # by cell: runs that were begun while it runs
        self._left: set[str] | None = None  # cells whose runs were finished before; None: nobody has looked
        with _explained(uri):
            self.client = MlflowClient(tracking_uri=uri)
            self.client.search_experiments(max_results=1)
            self._experiment(sweep)

    def rounds(self, sweep: str, entries: Sequence[tuple[Begun, RoundRecord]]) -> None:
        """Begin runs of cells that are new, and log what has ended; finished runs of the same cell are left alone."""
        from mlflow.entities import Metric, Param

        new: dict[str, list[Any]] = {}
        with _explained(self.uri), self._all_or_none():
            identity = self._experiment(sweep) or self.client.create_experiment(sweep)
            if self._left is None:
                runs = [run for run in self._runs(identity) if run.info.status == "FINISHED"]
                self._left = {run.data.tags.get("autoflip.cell", "") for run in runs}
            for cell, entry in entries:
                if cell.cell in self._left:
                    continue
                if cell.cell not in self._shown:
                    began = int(time.time() * 1000)
                    tags = {"autoflip.cell": cell.cell, "autoflip.group": cell.group}
                    run = self.client.create_run(identity, start_time=began, tags=tags, run_name=cell.run)
                    self._shown[cell.cell] = _Shown(str(run.info.run_id), began, {})
                    parameters = [Param(name, _cut(value)) for name, value in cell.parameters.items()]
                    for start in range(0, len(parameters), _PARAMETERS):
                        self.client.log_batch(run.info.run_id, params=parameters[start : start + _PARAMETERS])
                shown = self._shown[cell.cell]
                for name, value in points(entry):
                    shown.series.setdefault(name, []).append((entry.round, value))
                    metric = Metric(name, value, shown.began + entry.round, entry.round)
                    new.setdefault(shown.run, []).append(metric)
            for identifier, metrics in new.items():
                self._log(identifier, metrics)

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """After a failure nobody knows what was logged: those runs are written anew, whole, when they end."""
        try:
            yield
        except BaseException:
            self._shown.clear()
            raise

    def close(self) -> None:
        """Runs of cells that did not come to their end are marked as killed; the next sweep replaces them."""
        with contextlib.suppress(Exception):
            for shown in self._shown.values():
                self.client.set_terminated(shown.run, "KILLED")

    def write(self, sweep: str, records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Written:
        """Runs that are there and finished with the same numbers stay; others of the same cell are replaced."""
        new = 0
        with _explained(self.uri):
            identity = self._experiment(sweep) or self.client.create_experiment(sweep)
            there: dict[str, list[Any]] = {}
            for run in self._runs(identity):
                there.setdefault(run.data.tags.get("autoflip.cell", ""), []).append(run)
            for item in (track(record, outcome) for record in records):
                old = there.get(item.tags["autoflip.cell"], [])
                whole = [
                    r for r in old if r.info.status == "FINISHED" and r.data.tags.get("autoflip.digest") == item.digest
                ]
                shown = self._shown.pop(item.tags["autoflip.cell"], None)
                kept = {run.info.run_id for run in whole[:1]}
                if not whole and shown is not None and begins(item.series, shown.series):
                    kept = {shown.run}
                for run in old:
                    if run.info.run_id not in kept:
                        self.client.delete_run(run.info.run_id)
                if not whole:
                    self._write(identity, item, shown if kept else None)
                    new += 1
        look = f"mlflow ui --backend-store-uri {self.uri}"
        return Written("MLflow", self.uri, new, len(records) - new, look)

    def _experiment(self, name: str) -> str | None:
        """The id of the experiment of that name; None where there is none.

        Raises:
            StoreError: it was deleted; MLflow keeps its name, and writes to it no more.
        """
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return None
        if found.lifecycle_stage == "deleted":
            raise StoreError(
                f"--mlflow {self.uri}: the experiment '{name}' was deleted there, and its name is still taken; bring "
                f"it back with `mlflow experiments restore --experiment-id {found.experiment_id}` (and that URI in "
                f"MLFLOW_TRACKING_URI), or give the sweep another name with --set name=…"
            )
        return str(found.experiment_id)

    def _runs(self, experiment: str) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([experiment], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _write(self, experiment: str, item: Track, shown: _Shown | None) -> None:
        """A run of which nothing is there, or what is missing of one that was shown while its cell ran."""
        from mlflow.entities import Metric, Param, RunTag

        if shown is None:
            now = int(time.time() * 1000)  # MLflow counts milliseconds; points of a series get rising ones
            run = self.client.create_run(experiment, start_time=now, tags=item.tags, run_name=item.run)
            shown = _Shown(str(run.info.run_id), now, {})
            parameters = [Param(name, _cut(value)) for name, value in item.parameters.items()]
            for start in range(0, len(parameters), _PARAMETERS):
                self.client.log_batch(shown.run, params=parameters[start : start + _PARAMETERS])
        else:
            self.client.log_batch(shown.run, tags=[RunTag(name, text) for name, text in item.tags.items()])
        now, last = shown.began, max((known[-1][0] for known in item.series.values()), default=0)
        metrics = [
            Metric(name, value, now + step, step)
            for name, known in item.series.items()
            for step, value in known[len(shown.series.get(name, [])) :]
        ]
        self._log(shown.run, [*metrics, *(Metric(name, value, now + last, last) for name, value in item.final.items())])
        self.client.set_terminated(shown.run, "FINISHED", max(now + last, int(time.time() * 1000)))

    def _log(self, run: str, metrics: Sequence[Any]) -> None:
        for start in range(0, len(metrics), _METRICS):
            self.client.log_batch(run, metrics=metrics[start : start + _METRICS])


@dataclass
class _Shown:
    """A run of a cell that still runs."""

    run: str
    began: int  # milliseconds
    series: Series  # that were logged


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _no_database(uri: str) -> str | None:
    """What is wrong with the file of a ``sqlite:///`` URI, before three libraries guess at it."""
    if not uri.startswith("sqlite:///") or uri == "sqlite:///:memory:":
        return None
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if not file.absolute().parent.is_dir():
        return f"there is no folder {file.parent}{nearby(file.parent)}; make it, or give another file"
    head = glance(file)
    return instead(head, "a SQLite database", "give another file", "sqlite") if head else None


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """MLflow's failures (of any kind: it also lets through those of databases and networks) in one sentence."""
    try:
        yield
    except AutoflipError:
        raise
    except ImportError as error:
        raise InputError(missing("--mlflow", "mlflow", error)) from error
    except Exception as error:
        why = " ".join(str(error).split())[:600]
        if _ALLOW in why:
            raise InputError(
                f"--mlflow {uri}: this MLflow no longer writes to plain folders; give a database, such as --mlflow "
                f"sqlite:///mlflow.db, or set {_ALLOW}=true to go on with the folder"
            ) from error
        raise StoreError(
            f"--mlflow {uri}: MLflow failed ({why}); finished cells are kept, run the same command again with a URI "
            "that works, for example sqlite:///mlflow.db"
        ) from error
