"""Tables and Hugging Face folders: scikit-learn and numpy are the second opinion; what cannot be learned is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.datasets import HuggingFace, Table

datasets = pytest.importorskip("datasets", reason="the extra `datasets` is not installed")


def flowers(rows: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(5, 3, (rows, 3)), columns=["sepal", "petal", "leaf"])
    return frame.assign(kind=np.array(["rose", "lily", "NA"])[np.arange(rows) % 3], garden=np.arange(rows) // 10)


def table(folder: Path, frame: pd.DataFrame, **options: object) -> Table:
    frame.to_csv(folder / "t.csv", index=False)
    return Table(**{"path": folder / "t.csv", "label": "kind", **options})


def test_columns_become_standardised_features_classes_and_owners(tmp_path: Path) -> None:
    from sklearn.preprocessing import StandardScaler

    frame = flowers()
    frame.iloc[:45].to_parquet(tmp_path / "train.parquet")
    frame.iloc[45:].drop(columns="garden").to_csv(tmp_path / "test.csv", index=False)
    source = Table(path=tmp_path / "train.parquet", test_path=tmp_path / "test.csv", label="kind", owner="garden")
    data = source.load()
    scaler = StandardScaler().fit(frame.iloc[:45, :3])
    assert np.allclose(data.x_train, scaler.transform(frame.iloc[:45, :3]), atol=1e-5)
    assert np.allclose(data.x_test, scaler.transform(frame.iloc[45:, :3]), atol=1e-5)
    assert data.class_names == ("NA", "lily", "rose")
    assert [data.class_names[c] for c in data.y_train] == frame["kind"][:45].tolist()
    assert [data.class_names[c] for c in data.y_test] == frame["kind"][45:].tolist()
    assert data.groups is not None
    assert data.groups.tolist() == frame["garden"][:45].tolist()


def test_a_held_out_share_is_stratified_fixed_by_its_seed_and_a_partition_of_the_rows(tmp_path: Path) -> None:
    frame = flowers()
    whole = table(tmp_path, frame, owner="garden", standardise=False).load()
    assert (len(whole.y_train), len(whole.y_test)) == (48, 12)
    assert whole.y_test.bincount().tolist() == [4, 4, 4]
    rows = np.concatenate([whole.x_train, whole.x_test])
    assert np.allclose(np.sort(rows, 0), np.sort(frame.iloc[:, :3].to_numpy(), 0), atol=1e-5)
    by_value = {round(float(value), 4): owner for value, owner in zip(frame["sepal"], frame["garden"], strict=True)}
    assert whole.groups is not None
    assert [by_value[round(float(x[0]), 4)] for x in whole.x_train] == whole.groups.tolist()
    again, other = (
        table(tmp_path, frame, owner="garden", standardise=False, split_seed=seed).load() for seed in (0, 1)
    )
    assert torch.equal(again.x_test, whole.x_test)
    assert not torch.equal(other.x_test, whole.x_test)


def test_whole_numbers_and_lists_are_tokens_where_nothing_is_standardised(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": range(20), "b": range(20, 40), "kind": [0, 1] * 10})
    assert table(tmp_path, frame, standardise=False).load().x_train.dtype == torch.int64
    pd.DataFrame({"tokens": [[i, 7, 2] for i in range(20)], "kind": [3, 9] * 10}).to_parquet(tmp_path / "t.parquet")
    data = Table(path=tmp_path / "t.parquet", label="kind").load()
    assert data.x_train.dtype == torch.int64
    assert data.input_shape == (3,)
    assert data.class_names == ("3", "9")


def changed(**columns: object) -> pd.DataFrame:
    return flowers().assign(**columns)


HOLES = np.where(np.arange(60) % 20 == 4, np.nan, 1.0)
BAD = [
    (changed(petal=HOLES), {}, r"values are missing in 'petal' \(3 rows, the first is row 5\)"),
    (changed(petal=["?"] + ["1"] * 59), {}, r"column 'petal' holds text .*\('\?' in the first\)"),
    (changed(kind="rose"), {}, "'kind' holds a single class, 'rose'"),
    (changed(kind=np.arange(60) + 0.5), {}, "'kind' holds 0.5; expected classes"),
    (changed(kind=["once"] + ["rose"] * 59), {}, r"class \w+ .*has a single sample"),
    (flowers(), {"label": "kinds"}, "has no column 'kinds', but 'kind'; it has 'sepal', 'petal'"),
    (flowers(), {"features": ["sepal", "kind"]}, "features names the label"),
    (flowers(), {"ignore": ["sepal", "petal", "leaf", "garden"]}, "no column is left for the features"),
    (flowers().rename_axis("Unnamed: 0").reset_index(), {}, "is a row number; name it in `ignore`"),
    (flowers(), {"test_share": 0.01}, "test_share = 0.01 of 60 samples is 1, and each of 3 classes"),
    (flowers().iloc[:0], {}, "has no rows"),
    (changed(petal=np.inf), {"standardise": False}, "x_train holds NaN, infinity"),
]


@pytest.mark.parametrize(("frame", "options", "message"), BAD, ids=[message[:30] for *_, message in BAD])
def test_a_table_that_cannot_be_learned_from_is_refused(tmp_path: Path, frame, options, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        table(tmp_path, frame, **options).load()
    assert str(tmp_path / "t.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, not a CSV or Parquet table"),
        (b"\x1f\x8b\x08abc", "is packed with gzip"),
        (b"PAR1 and then nothing", "not a whole CSV or Parquet table"),
        (b"a;kind\n1;2\n", 'set separator: ";"'),
        (b"a,kind\n1,2,3,4\n", "more fields than"),
        (b"\x00\x01\x02" * 50, "has no column 'kind'; it has"),
        (b'a,kind\n"1,2\n', "not a whole CSV"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Table(path=tmp_path / "t.csv", label="kind").load()


def test_classes_of_the_test_set_are_known_from_training(tmp_path: Path) -> None:
    flowers().assign(kind="weed").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(DataError, match="the test set has class 'weed', which no training row has"):
        table(tmp_path, flowers(), test_path=tmp_path / "test.csv").load()
    numbered = flowers().assign(kind=np.arange(60) % 3)
    numbered.assign(kind=numbered["kind"].astype(float)).to_csv(tmp_path / "test.csv", index=False)
    data = table(tmp_path, numbered, test_path=tmp_path / "test.csv").load()
    assert data.y_test.tolist() == numbered["kind"].tolist(), "1.0 is 1"
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        Table(path=tmp_path / "absent.csv", label="kind").load()


# ------------------------------------------------------------------------------------------------ Hugging Face


def test_a_saved_data_set_of_images_is_read_offline_with_its_class_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
    columns = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "emu"])}
    from PIL import Image

    rows = {"image": [Image.fromarray(one) for one in pixels], "label": [0, 1] * 6}
    part = datasets.Dataset.from_dict(rows, features=datasets.Features(columns))
    datasets.DatasetDict({"train": part, "test": part.select(range(4))}).save_to_disk(tmp_path / "saved")
    data = HuggingFace(path=tmp_path / "saved").load()
    assert np.allclose(data.x_train, pixels.transpose(0, 3, 1, 2) / 255)
    assert (data.num_classes, data.class_names) == (3, ("cat", "dog", "emu"))  # no training sample shows an emu
    with pytest.raises(DataError, match=r"has no split 'validation'; it has train, test; .*test_split: null"):
        HuggingFace(path=tmp_path / "saved", test_split="validation").load()


def test_parquet_shards_are_found_by_split_and_nothing_is_left_behind(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    (tmp_path / "data").mkdir()
    frame = pd.DataFrame({"input_ids": [[i, 1] for i in range(20)], "label": [0, 1] * 10, "who": list("abcd") * 5})
    for number in (0, 1):
        shard = frame.iloc[number * 10 : number * 10 + 10]
        shard.to_parquet(tmp_path / "data" / f"train-0000{number}-of-00002.parquet")
    before = sorted(tmp_path.rglob("*"))
    data = HuggingFace(path=tmp_path, test_split=None, owner="who", features=["input_ids"]).load()
    assert sorted(tmp_path.rglob("*")) == before
    assert (data.x_train.dtype, len(data.x_train), len(data.x_test)) == (torch.int64, 16, 4)
    assert data.groups is not None
    owner = {i: "abcd".index(who) for i, who in enumerate(frame["who"])}
    assert data.groups.tolist() == [owner[int(x[0])] for x in data.x_train]


def test_csv_files_of_a_split_are_read_as_tables_are(tmp_path: Path) -> None:
    frame = flowers()
    for number in (0, 1):
        frame.iloc[number * 30 : number * 30 + 30].to_csv(tmp_path / f"train-{number}.csv", index=False)
    frame.to_csv(tmp_path / "whole.csv", index=False)
    files = HuggingFace(path=tmp_path, test_split=None, label="kind", owner="garden").load()
    one = Table(path=tmp_path / "whole.csv", label="kind", owner="garden").load()
    assert files.class_names == one.class_names == ("NA", "lily", "rose")
    assert torch.equal(files.x_train, one.x_train)
    assert torch.equal(files.y_test, one.y_test)


def test_what_huggingface_cannot_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        HuggingFace(path=tmp_path / "nothing").load()
    with pytest.raises(DataError, match="has no split 'train'"):
        HuggingFace(path=tmp_path).load()
    (tmp_path / "dataset_dict.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        HuggingFace(path=tmp_path).load()
    for wrong in ({}, {"path": tmp_path, "name": "a/b"}, {"name": "a/b"}, {"name": "csv", "download": True}):
        with pytest.raises(ValidationError, match=r"either path|download: true|pattern"):
            HuggingFace(**wrong)


def test_the_hub_is_asked_with_revision_and_without_code(monkeypatch) -> None:
    asked = []

    def load(*arguments: object, **options: object) -> object:
        asked.append((arguments, options))
        rows = {"x": [1.0, 2.0, 3.0, 4.0], "label": [0, 1, 0, 1]}
        return datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name in ("train", "test")})

    monkeypatch.setattr(datasets, "load_dataset", load)
    HuggingFace(name="owner/set", subset="small", revision="abc", download=True).load()
    assert asked == [(("owner/set", "small"), {"revision": "abc"})]


def test_old_versions_that_run_code_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(DataError, match="would run code of data sets; install datasets>=4"):
        HuggingFace(path=tmp_path).load()
