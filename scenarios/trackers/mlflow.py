"""MLflow: an experiment named after the sweep, one run per cell with parameters, metrics per round, and tags."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.files.first_bytes import glance, instead
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.trackers.base import Tracker, Written, missing
from autoflip_secure.scenarios.trackers.flattened import Track, track
from autoflip_secure.terminal.near_names import nearby

_METRICS, _PARAMETERS = 1000, 100  # what MLflow takes at once
_ALLOW = "MLFLOW_ALLOW_FILE_STORE"  # without it, MLflow 3 refuses plain folders
_LONGEST = 500  # characters of a parameter that every MLflow server takes


class Mlflow(Tracker):
    """An experiment named after the sweep, one run per cell: parameters, a metric per quantity and round, tags."""

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
        with _explained(uri):
            self.client = MlflowClient(tracking_uri=uri)
            self.client.search_experiments(max_results=1)
            self._experiment(sweep)

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
                    r for r in old if r.info.status == "FINISHED" and r.data.tags["autoflip.digest"] == item.digest
                ]
                for run in old:
                    if run not in whole[:1]:
                        self.client.delete_run(run.info.run_id)
                if not whole:
                    self._write(identity, item)
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

    def _write(self, experiment: str, item: Track) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)  # MLflow counts milliseconds; points of a series get rising ones
        run = self.client.create_run(experiment, start_time=now, tags=item.tags, run_name=item.run)
        last = max((points[-1][0] for points in item.series.values()), default=0)
        metrics = [Metric(k, v, now + step, step) for k, points in item.series.items() for step, v in points]
        metrics += [Metric(name, value, now + last, last) for name, value in item.final.items()]
        parameters = [
            Param(k, v if len(v) <= _LONGEST else v[: _LONGEST - 1] + "…") for k, v in item.parameters.items()
        ]
        for start in range(0, len(metrics), _METRICS):
            self.client.log_batch(run.info.run_id, metrics=metrics[start : start + _METRICS])
        for start in range(0, len(parameters), _PARAMETERS):
            self.client.log_batch(run.info.run_id, params=parameters[start : start + _PARAMETERS])
        self.client.set_terminated(run.info.run_id, "FINISHED", now + last)


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
