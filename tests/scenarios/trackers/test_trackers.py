"""What TensorBoard and MLflow are told, read back with their own readers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import at
from tracked import SCENARIO

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.tracker_choice import trackers
from autoflip_secure.scenarios.trackers.base import Tracker
from autoflip_secure.scenarios.trackers.flattened import begun, group_name, run_name, track
from autoflip_secure.scenarios.trackers.wandb import shortened

# MLflow and its database layer warn of their own future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    torch.set_num_threads(1)
    work = plan(resolve(Document.parse(SCENARIO, "here")))
    return [record for block in work.blocks for record in run_block(block)]


def by_hand(record: RunRecord) -> dict[str, list[tuple[int, float]]]:
    """The series, from the JSON document with plain loops."""
    cell = json.loads(record.model_dump_json())
    found: dict[str, list[tuple[int, float]]] = {}

    def put(name: str, step: int, value: float | None) -> None:
        if value is not None:
            found.setdefault(name, []).append((step, value))

    for entry in cell["rounds"]:
        step = entry["round"]
        put("test/accuracy", step, entry["test_accuracy"])
        put("test/loss", step, entry["test_loss"])
        put("train/loss", step, entry["train_loss"])
        put("model/density", step, entry["density"])
        put("update/variance", step, entry["update_variance"])
        put("update/client_variance", step, entry["client_variance"])
        put("update/step_norm", step, entry["step_norm"])
        put("clients/rejected", step, len(entry["rejected"]))
        put("cost/uplink_bytes", step, entry["bytes"]["uplink_values"])
        put("cost/downlink_bytes", step, entry["bytes"]["downlink_values"])
        put("cost/training_flops", step, entry["flops"]["sparse"])
        for what, key in (("score", "scores"), ("trust", "trust")):
            for who, wanted in (("malicious", True), ("honest", False)):
                values = [v for v, b in zip(entry[key] or [], entry["malicious"], strict=False) if b == wanted]
                put(f"clients/{what}_{who}", step, sum(values) / len(values) if values else None)
    return found


def test_a_track_is_what_the_record_says(records: list[RunRecord]) -> None:
    for record in records:
        item = track(record)
        expected = by_hand(record)
        assert item.series.keys() == expected.keys()
        for name, points in expected.items():
            assert item.series[name] == [pytest.approx(point) for point in points], name
        assert item.series["test/accuracy"][-1][1] == record.final_accuracy
        assert item.final["outcome/accuracy"] == DEFAULT.accuracy(record)
        assert item.tags["autoflip.outcome"] == str(DEFAULT)
        assert [step for step, _ in item.series["test/accuracy"]] == [2, 4]
        assert ("final/detection_auc" in item.final) == (record.algorithm == "autoflip")
        assert item.parameters["attack.sigma"] == str(record.config["attack"]["sigma"])
        assert item.parameters["model.hidden"] == "[8]"
    scored = next(r for r in records if r.algorithm == "autoflip")
    assert "clients/score_honest" in track(scored).series


def test_digest_is_of_the_numbers_alone(records: list[RunRecord]) -> None:
    record = records[0]
    assert len({track(r).digest for r in records}) == len(records)
    elsewhere = record.model_copy(update={"timing": {"seconds": 99.0}, "versions": {"torch": "0"}})
    assert track(elsewhere).digest == track(record).digest
    assert track(record.model_copy(update={"final_accuracy": 0.123})).digest != track(record).digest


def test_run_names_are_safe_and_unique(records: list[RunRecord]) -> None:
    assert len({run_name(r) for r in records}) == len(records)
    assert run_name(records[0]).startswith("fedavg,attack.sigma=0.5,seed=3,")
    hostile = {"attack": {"kind": "../../<script>", "name": "x" * 900}, "data.path": "/etc/\u202epasswd\n", "x": None}
    name = run_name(records[0].model_copy(update={"axes": hostile, "algorithm": "..evil/.."}))
    assert not set(name) & set("/\\<>\n\u202e\0:")
    assert not name.startswith(".")
    assert len(name) < 200


# ------------------------------------------------------------------------------------------------ reading back


class ReadTensorBoard:
    """TensorBoard's own reader."""

    def __init__(self, place: Path) -> None:
        self.place = place / "tb"

    def tracker(self) -> Tracker:
        return trackers(self.place, None, "tracked")[0]

    def runs(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = {}
        for folder in sorted((self.place / "tracked").iterdir()):
            assert len(list(folder.glob("events.*"))) == 1
            events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
            found[folder.name] = {
                name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]
            }
        return found

    def cut_short(self, name: str) -> None:
        (self.place / "tracked" / name / "autoflip.digest").unlink()
        (self.place / "tracked" / ".writing-abc").mkdir()


class ReadMlflow:
    """MLflow's own client."""

    def __init__(self, uri: str) -> None:
        from mlflow.tracking import MlflowClient

        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri)

    def tracker(self) -> Tracker:
        return trackers(None, self.uri, "tracked")[0]

    def all(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name("tracked")
        return list(self.client.search_runs([experiment.experiment_id]))

    def runs(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        found = {}
        for run in sorted(self.all(), key=lambda run: run.info.run_name):
            assert run.info.status == "FINISHED"
            assert run.data.params["algorithm.name"] == run.data.tags["autoflip.algorithm"]
            assert run.info.run_name not in found
            history = {name: self.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
            found[run.info.run_name] = {
                name: [(m.step, m.value) for m in sorted(points, key=lambda m: m.timestamp)]
                for name, points in history.items()
            }
        return found

    def cut_short(self, name: str) -> None:
        run = next(run for run in self.all() if run.info.run_name == name)
        self.client.update_run(run.info.run_id, status="RUNNING")


Reader = ReadTensorBoard | ReadMlflow
READERS: dict[str, Callable[[Path], Reader]] = {
    "tensorboard": ReadTensorBoard,
    "mlflow sqlite": lambda folder: ReadMlflow(f"sqlite:///{folder / 'mlflow.db'}"),
    "mlflow file": lambda folder: ReadMlflow((folder / "mlruns").as_uri()),
}


def test_settings_whose_long_names_begin_alike_are_two_groups() -> None:
    """A tracker takes the mean over a group; also where what differs is no letter that a file name may have."""
    axes = {"attack": {"kind": "label_flip", "fraction": 1.0}, "model": "my_models.small:net", "training.lr": 0.1}
    many = [{**axes, "partition": {"kind": "dirichlet", "alpha": 0.3}, "of": "x" * 60, "last": end} for end in (1, 2)]
    greek = [{"data.path": f"{end}/data"} for end in ("\u03b1", "\u03b2")]
    for pair in (many, greek):
        names = [group_name("autoflip", one) for one in pair]
        assert len(set(names)) == 2
        assert all(len(name) <= 120 for name in names)
    assert group_name("autoflip", axes).endswith("model=my_models.small-net,training.lr=0.1")


def test_names_of_runs_fit_into_what_weights_and_biases_takes() -> None:
    """128 characters; what is longer is refused by its server, when the files of a finished sweep are uploaded."""
    whole = [
        begun("autoflip", {"of": "x" * 200}, seed, f"{cell:016x}", {}).run for seed in (3, 2**63 - 1) for cell in (1, 2)
    ]
    short = [shortened(name) for name in whole]
    assert min(map(len, whole)) > 128 >= max(map(len, short))
    assert len(set(short)) == 4
    assert [name.rsplit(",", 2)[1:] for name in short] == [name.rsplit(",", 2)[1:] for name in whole]


@pytest.mark.parametrize(
    "kind", ["tensorboard", *(pytest.param(f"mlflow {kind}", marks=pytest.mark.slow) for kind in ("file", "sqlite"))]
)
def test_what_was_written_is_read_back(
    kind: str, records: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First half of a sweep, then all of it, then the same again, then after an accident, then other numbers."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # in maintenance, but people have such folders
    reader = READERS[kind](tmp_path)
    half = reader.tracker().write("tracked", records[:3])
    whole = reader.tracker().write("tracked", records)
    again = reader.tracker().write("tracked", records)
    assert [(w.new, w.kept) for w in (half, whole, again)] == [(3, 0), (5, 3), (0, 8)]
    assert "3 already there" in str(whole)

    def check(expected: list[RunRecord]) -> None:
        found = reader.runs()
        assert found.keys() == {run_name(record) for record in expected}
        for record in expected:
            series = found[run_name(record)]
            last = record.rounds[-1].round
            final = {name: [(last, value)] for name, value in track(record).final.items()}
            assert series.keys() >= (by_hand(record) | final).keys()
            for name, points in (by_hand(record) | final).items():
                assert [step for step, _ in series[name]] == [step for step, _ in points]
                assert series[name] == [pytest.approx(point, rel=1e-6) for point in points], name

    check(records)
    reader.cut_short(run_name(records[1]))
    assert reader.tracker().write("tracked", records).new == 1
    check(records)
    changed = [at(records[0], 0.125), *records[1:]]
    assert reader.tracker().write("tracked", changed).new == 1
    check(changed)
    with pytest.raises(AssertionError):
        check(records)


def test_places_that_cannot_be_used(tmp_path: Path, records: list[RunRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"--tensorboard .*file.*cannot be written \(.*finished cells are kept"):
        trackers(tmp_path / "file", None, "tracked")
    with pytest.raises(StoreError, match=r"--mlflow nonsense://x: MLflow failed \(.*sqlite:///mlflow.db"):
        trackers(None, "nonsense://x", "tracked")
    for folder in (tmp_path.as_uri(), str(tmp_path / "mlruns")):
        with pytest.raises(
            InputError, match=r"no longer writes to plain folders.*sqlite:///mlflow.db.*MLFLOW_ALLOW_FILE_STORE=true"
        ):
            trackers(None, folder, "tracked")
    tracker = trackers(tmp_path / "tb", None, "tracked")[0]
    (tmp_path / "tb" / "tracked").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        tracker.write("tracked", records[:1])
