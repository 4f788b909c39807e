"""LEAF, image folders and users' functions: real files, known arrays, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_datasets import shared

from autoflip_secure.errors import DataError, InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.data.datasets import CustomData, ImageFolder, Leaf
from autoflip_secure.scenarios.data.images import read_image
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.store.fingerprints import input_digests, read_by

# ------------------------------------------------------------------------------------------------ LEAF


@pytest.mark.slow
def test_the_real_leaf_files_have_the_known_users_and_the_pixels_of_mnist() -> None:
    from autoflip_secure.scenarios.data.datasets import Mnist

    data = Leaf(path=shared("mnist_by_writer_leaf"), shape=(28, 28)).load()
    assert (len(data.x_train), len(data.x_test), data.input_shape) == (2130, 227, (1, 28, 28))
    assert data.groups is not None
    assert len(data.groups.unique()) == 20
    mnist = Mnist(root=shared("MNIST").parent).load()
    whole = mnist.x_train[:, 0].mul(0.3081).add(0.1307).mul(255).round().to(torch.uint8)
    for x, y in zip(data.x_train[::300, 0], data.y_train[::300], strict=True):
        (row,) = (whole == x.mul(255).round().to(torch.uint8)).flatten(1).all(1).nonzero().tolist()
        assert mnist.y_train[row[0]] == y


def leaf(folder: Path, **changed: object) -> Leaf:
    users = {"a": {"x": [[1, 2], [3, 4]], "y": [0, 1]}, "b": {"x": [], "y": []}, "c": {"x": [[5, 6]], "y": [1]}}
    content = {"users": ["a", "b", "c"], "num_samples": [2, 0, 1], "user_data": users} | changed
    for part in ("train", "test"):
        (folder / "data" / part).mkdir(parents=True, exist_ok=True)
        (folder / "data" / part / "all.json").write_text(json.dumps(content))
    return Leaf(path=folder)


def test_users_own_their_samples_and_whole_numbers_stay_whole(tmp_path: Path) -> None:
    data = leaf(tmp_path).load()
    assert data.x_train.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert data.x_train.dtype == torch.int64
    assert data.groups is not None
    assert data.groups.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"users": None}, "is JSON, but not LEAF's"),
        ({"num_samples": [2, 0]}, "3 users and 2 num_samples"),
        ({"num_samples": [2, 0, 2]}, "user 'c' has 1 x and 1 y, and num_samples says 2"),
        ({"users": ["a", "b", "z"]}, "user 'z' has no lists x and y"),
        ({"user_data": {"a": {"x": [[1], [2, 3]], "y": [0, 1]}}}, "user 'a': samples have different lengths"),
        ({"user_data": {"a": {"x": ["to be", "or not"], "y": [0, 1]}}}, "'a': sample 2 has 6 characters, the first 5"),
        ({"user_data": {"a": {"x": [[1], [2]], "y": ["t", "o"]}}}, "y holds <U1"),
        ({"users": ["c"], "num_samples": [1]}, "no sample of class 0"),
        ({"users": [], "num_samples": [], "user_data": {}}, "no user has a sample in train"),
    ],
)  # fmt: skip
def test_leaf_that_does_not_fit_is_refused(tmp_path: Path, changed: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        leaf(tmp_path, **changed).load()


def test_leaf_files_absent_damaged_or_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \*\.json files in train"):
        Leaf(path=tmp_path).load()
    source = leaf(tmp_path)
    with pytest.raises(DataError, match=r"shape = \[3\] takes 3 numbers"):
        Leaf(path=tmp_path, shape=(3,)).load()
    leaf(tmp_path, users=["a"], num_samples=[2], user_data={"a": {"x": [[1], [2]], "y": [0, 4]}})
    with pytest.raises(DataError, match=r"labels run from 0 to 4, and num_classes = 2"):
        Leaf(path=tmp_path, num_classes=2).load()
    assert Leaf(path=tmp_path, num_classes=9).load().num_classes == 9
    (tmp_path / "data" / "train" / "all.json").write_text('{"users": [')
    with pytest.raises(DataError, match=r"all\.json: found 11 bytes that are not a whole LEAF JSON file"):
        source.load()


# ------------------------------------------------------------------------------------------------ image folders


def pictures(folder: Path, *classes: str, count: int = 5, shape: tuple[int, ...] = (6, 4, 3)) -> np.ndarray:
    pixels = np.random.default_rng(2).integers(0, 256, (len(classes), count, *shape), dtype=np.uint8)
    for name, images in zip(classes, pixels, strict=True):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return pixels


def test_pixels_of_images_are_divided_by_255_and_a_share_is_held_out(tmp_path: Path) -> None:
    pixels = pictures(tmp_path, "cat", "dog")
    data = ImageFolder(path=tmp_path, test_share=0.4).load()
    assert (len(data.y_train), len(data.y_test), data.input_shape) == (6, 4, (3, 6, 4))
    assert data.class_names == ("cat", "dog")
    expected = np.sort((pixels.transpose(0, 1, 4, 2, 3) / 255).reshape(10, -1), 0)
    assert np.allclose(np.sort(torch.cat([data.x_train, data.x_test]).flatten(1).numpy(), 0), expected, atol=1e-6)
    small = ImageFolder(path=tmp_path, size=(3, 2), colour="grey").load()
    assert small.input_shape == (1, 3, 2)


def test_image_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        ImageFolder(path=tmp_path / "nothing").load()
    with pytest.raises(DataError, match="class folder"):
        ImageFolder(path=tmp_path).load()
    pictures(tmp_path / "a" / "train", "cat", "dog")
    with pytest.raises(DataError, match="has train, but no train and test"):
        ImageFolder(path=tmp_path / "a").load()
    pictures(tmp_path / "a" / "test", "cat", "emu")
    with pytest.raises(DataError, match="is a class that train does not have"):
        ImageFolder(path=tmp_path / "a").load()
    pictures(tmp_path / "b", "cat", "dog")
    Image.new("RGB", (9, 9)).save(tmp_path / "b" / "dog" / "1.png")
    with pytest.raises(DataError, match=r"1\.png: is 9 x 9 pixels, 0\.png is 6 x 4; set `size"):
        ImageFolder(path=tmp_path / "b").load()
    whole = (tmp_path / "b" / "dog" / "0.png").read_bytes()
    (tmp_path / "b" / "dog" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError,
        match=r"1\.png: found \d+ bytes that are not a whole image \(OSError: image file is truncated.*; replace it",
    ):
        ImageFolder(path=tmp_path / "b").load()
    for content, message in (
        (b"hello world", "is plain text, not an image"),
        (bytes(500), "nothing but zeros so far"),
        (b"\x01\x02" * 90, r"not a whole image \(ValueError: no format that Pillow knows\)"),
    ):
        (tmp_path / "b" / "dog" / "1.png").write_bytes(content)
        with pytest.raises(DataError, match=message):
            ImageFolder(path=tmp_path / "b").load()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "b" / "dog" / "1.png")
    with pytest.raises(DataError, match="DecompressionBomb"):
        ImageFolder(path=tmp_path / "b").load()


# ------------------------------------------------------------------------------------------------ users' functions

SOURCE = """
import numpy as np
import torch
from outside_helper import LEVEL

X, Y = torch.arange(48.0).reshape(16, 3) / 48, np.arange(16) % 2

def mapping(level=LEVEL):
    return {"x_train": X * level, "y_train": Y, "x_test": X[:4], "y_test": Y[:4], "groups": [0] * 8 + [1] * 8}

CALLS = []

def counted():
    CALLS.append(1)
    return mapping()

def pair():
    return (X, Y), (X[:4], Y[:4])

class Samples(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows
    def __len__(self):
        return self.rows
    def __getitem__(self, i):
        return X[i], Y[i], i // 4

def sets():
    return Samples(16), Samples(4)

def drawn():
    x = torch.randn(16, 3)
    return (x, Y), (x[:4], Y[:4])

def restless():
    x = np.random.default_rng().normal(size=(16, 3))
    return (x, Y), (x[:4], Y[:4])

def wide():
    return {**mapping(), "num_classes": 5}

def text(): return "x"
def short(): return {"x_train": X}
def unknown(): return {**mapping(), "owners": Y}
def few(): return {**mapping(), "num_classes": 1}
def ragged(): return ([[1.0], [1.0, 2.0]], [0, 1]), ([[1.0]], [0])
def objects(): return ([object()] * 2, [0, 1]), ([object()], [0])
def masked(): return {**mapping(), "x_test": np.ma.masked_less(X[:4].numpy(), 0.1)}
def unmasked(): return {**mapping(), "x_test": np.ma.masked_less(X[:4].numpy(), -1.0)}
def lengths(): return (X, Y[:3]), (X, Y)
def broken(): raise KeyError("oh")
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "outside_data.py").write_text(SOURCE)
    (tmp_path / "outside_helper.py").write_text("LEVEL = 2.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("outside_data", "outside_helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_every_form_gives_the_same_samples(outside: Path) -> None:
    mapping, pair, sets = (CustomData(factory=f"outside_data:{name}").load() for name in ("mapping", "pair", "sets"))
    assert torch.equal(mapping.x_train, 2 * pair.x_train)
    assert torch.equal(sets.x_train, pair.x_train)
    assert sets.y_test.tolist() == pair.y_test.tolist() == [0, 1, 0, 1]
    assert mapping.groups is not None
    assert sets.groups is not None
    assert (mapping.groups.tolist(), sets.groups.tolist()) == ([0] * 8 + [1] * 8, [i // 4 for i in range(16)])
    assert torch.equal(
        CustomData(factory="outside_data:mapping", arguments={"level": 1.0}).load().x_train, pair.x_train
    )
    assert CustomData(factory="outside_data:wide").load().num_classes == 5
    assert torch.equal(CustomData(factory="outside_data:unmasked").load().x_test, mapping.x_test)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "returned a str, expected a mapping with x_train"),
        ("short", "returned a mapping without y_train, x_test, y_test"),
        ("unknown", "returned a mapping with owners, which is not known"),
        ("few", "num_classes is 1, expected a whole number of at least 2"),
        ("ragged", "x_train cannot be made an array"),
        ("objects", "holds Python objects"),
        ("masked", "x_test has 5 masked values; fill or drop them"),
        ("lengths", r"y_train is int64 \(3,\), expected 16 whole numbers"),
        ("broken", "failed with KeyError"),
        ("absent", "outside_data has no 'absent'"),
        ("Y", "is a ndarray, expected a function or class that returns the data"),
    ],
)
def test_functions_that_return_something_else_are_refused(outside: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        CustomData(factory=f"outside_data:{name}").load()
    assert f"data.factory = 'outside_data:{name}'" in str(caught.value)


def text(function: str) -> str:
    return (
        "clients: 2\ncohort: 2\nrounds: 1\nseeds: [1]\nmodel: {kind: mlp, hidden: [4]}\n"
        f"partition: by_group\ndata: {{kind: custom, factory: 'outside_data:{function}'}}\n"
    )


def test_what_a_function_draws_globally_is_the_same_every_time_and_its_own_generators_are_refused(
    outside: Path,
) -> None:
    first = CustomData(factory="outside_data:drawn").read()
    torch.manual_seed(77)
    assert np.array_equal(first.x_train, CustomData(factory="outside_data:drawn").read().x_train)
    with pytest.raises(DataError, match="returns different samples when it is called again"):
        check(plan(resolve(Document.parse(text("restless"), "s.yaml"), ())).blocks)


def test_a_check_calls_the_function_once_more_than_its_data_are_made(outside: Path) -> None:
    check(plan(resolve(Document.parse(text("counted").replace("[1]", "[1, 2, 3]"), "s.yaml"), ())).blocks)
    assert len(sys.modules["outside_data"].CALLS) == 2


@pytest.mark.parametrize("extension", ["ppm", "bmp", "tif", "webp"])
def test_images_of_every_kind_that_keeps_pixels(tmp_path: Path, extension: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"x.{extension}", **({"lossless": True} if extension == "webp" else {}))
    assert (read_image(tmp_path / f"x.{extension}", "rgb", None) == pixels.transpose(2, 0, 1)).all()


def test_the_source_of_the_function_is_part_of_what_a_cell_read(outside: Path) -> None:
    settings = plan(resolve(Document.parse(text("mapping"), "s.yaml"), ())).cells[0].settings
    named = read_by(settings)
    assert named[1] == "source of data.factory outside_data:mapping and what it imports"
    before = input_digests([settings])
    assert set(before) == set(named)
    (outside / "outside_helper.py").write_text("LEVEL = 2.0  # another source, the same data\n")
    with pytest.raises(InputError, match="its source has changed since this process imported it"):
        input_digests([settings])
    del sys.modules["outside_data"]  # as a process would that starts now
    after = input_digests([settings])
    assert after[named[0]] == before[named[0]]
    assert after[named[1]] != before[named[1]]
