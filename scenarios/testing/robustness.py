"""A scenario as something to assert on: run once, kept under what it depends on, asked by attack and algorithm."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.durable import unwritable
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.overrides import as_called, importable, load_changed
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.sources import presets
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.fingerprints import run_digest
from autoflip_secure.scenarios.store.locks import Lock
from autoflip_secure.scenarios.testing.estimates import Estimate
from autoflip_secure.scenarios.testing.selection import one_condition
from autoflip_secure.terminal import notes
from autoflip_secure.terminal.near_names import suggest

_ELSEWHERE = "give another one with --robustness-cache"


@dataclass(frozen=True, repr=False)
class Results:
    """All cells of a scenario. Keywords of the methods pick one condition; see :mod:`.selection`."""

    name: str
    folder: Path  # a results folder: `autoflip-secure report` reads it
    records: tuple[RunRecord, ...]
    reused: int  # cells that were there from before
    outcome: OutcomeRule = DEFAULT  # the scenario's: which evaluations accuracy and loss are of

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.records)} cells in {self.folder}>"

    def accuracy(self, **where: Any) -> Estimate:
        """Test accuracy, in [0, 1]: the scenario's ``outcome``, by default the mean of the last five evaluations."""
        return self._estimate("accuracy", self.outcome.accuracy, where)

    def loss(self, **where: Any) -> Estimate:
        """Test loss, in nats, of the same evaluations as the accuracy."""
        return self._estimate("loss", self.outcome.loss, where)

    def detection_auc(self, **where: Any) -> Estimate:
        """How well agreement scores separate malicious from honest clients: area under the ROC curve, in [0, 1]."""
        return self._estimate("detection_auc", lambda record: record.detection_auc, where)

    def density(self, **where: Any) -> Estimate:
        """Share of the hidden weights that survive after the last round, in (0, 1]."""
        return self._estimate("density", lambda record: record.rounds[-1].density, where)

    def uplink_bytes(self, **where: Any) -> Estimate:
        """Bytes that all clients sent over the whole run, exploration included."""
        return self._estimate("uplink_bytes", lambda record: record.costs.bytes.uplink_values, where)

    def training_flops(self, **where: Any) -> Estimate:
        """Floating-point operations of local training over the whole run, live weights only."""
        return self._estimate("training_flops", lambda record: record.costs.flops.sparse, where)

    def measure(self, function: Callable[[RunRecord], float | None], **where: Any) -> Estimate:
        """Any number of a record: ``measure(lambda record: record.rounds[9].test_accuracy, sigma=0.5)``."""
        return self._estimate("measure", function, where)

    def _estimate(self, name: str, function: Callable[[RunRecord], float | None], where: dict[str, Any]) -> Estimate:
        __tracebackhide__ = True
        asked = f"{name}({', '.join(f'{key}={value!r}' for key, value in where.items())})"
        found = one_condition(self.records, where, asked)
        values = [function(record) for record in found]
        for record, value in zip(found, values, strict=True):
            if value is None:
                raise InputError(
                    f"{asked}: is not defined for {record.algorithm} with seed {record.seed}"
                    + (", whose aggregator does not score clients" if record.detection is None else "")
                    + (f"; {record.costs.compaction}" if record.costs.flops.dense is None else "")
                    + "; ask for another condition, or another number"
                )
        return Estimate(asked, tuple(r.seed for r in found), tuple(float(v) for v in values if v is not None))


class Robustness:
    """What the fixture ``robustness`` is: call it with a scenario file or a preset's name.

    Relative paths inside a scenario and models of your own are looked for from ``root``, as if the command line had
    been started there.
    """

    def __init__(self, root: Path, cache: Path, workers: int = 1) -> None:
        self.root = root
        self.cache = cache
        self.workers = workers
        self._done: dict[tuple[Path, OutcomeRule], Results] = {}

    def __call__(self, scenario: str | os.PathLike[str], **overrides: Any) -> Results:
        """Run ``scenario``, or take up what an earlier session has run.

        Args:
            scenario: a file (absolute, beside the calling file, or below ``root``), or the name of a preset.
            overrides: config path -> value; ``attack__sigma=0.3`` sets ``attack.sigma``.

        Raises:
            InputError: the scenario, its data or its model is wrong; says what and where.
            StoreError: the cache folder cannot be written.
        """
        __tracebackhide__ = True
        frame = inspect.currentframe()
        caller = frame.f_back.f_code.co_filename if frame is not None and frame.f_back is not None else ""
        source = self._find(os.fspath(scenario), Path(caller).parent)
        with importable(self.root), contextlib.chdir(self.root), as_called(overrides, "robustness"):
            work = plan(load_changed(source, overrides, "robustness"))
            folder = self.cache / f"{work.name}-{run_digest(work)}"
            known = folder, work.outcome  # the same runs serve every outcome
            if known not in self._done:
                with self._alone(folder):
                    listener = Listener(lambda *_: None, notes.remark)
                    result = run_sweep(work, folder, self.workers, listener, elsewhere=_ELSEWHERE)
                self._done[known] = Results(work.name, folder, tuple(result.records), result.reused, work.outcome)
        return self._done[known]

    @contextlib.contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """Another process of the same session may be running it now."""
        lock = Lock(folder.with_name(f"{folder.name}.lock"))
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise StoreError(f"{self.cache}: {unwritable(error, _ELSEWHERE)}") from error
        try:
            yield
        finally:
            lock.release()

    def _find(self, scenario: str, beside: Path) -> str | Path:
        tried = list(dict.fromkeys(folder / scenario for folder in (beside, self.root)))
        found = next((path for path in tried if os.path.isfile(path)), None)
        if found is not None:
            return found
        if scenario in presets():
            return scenario
        raise InputError(
            f"robustness({scenario!r}): no such file ({', '.join(map(str, tried))}), and no such preset; "
            f"{suggest(scenario, presets())}"
        )
