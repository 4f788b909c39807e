"""CIFAR, and pickles that would run code; torchvision and the ordinary unpickler are the second readers."""

import hashlib
import os
import pickle
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from small_datasets import Evil, write_cifar10

from autoflip_secure.errors import DataError
from scenarios.datasets import Cifar10
from scenarios.datasets_pickle import read_pickle


@pytest.mark.parametrize("protocol", range(6))
def test_cifar_is_read_from_every_pickle_protocol(tmp_path, protocol):
    batches = write_cifar10(tmp_path, protocol=protocol)
    pixels = np.concatenate([batches[f"data_batch_{i}"]["data"] for i in range(1, 6)]).reshape(-1, 3, 32, 32) / 255
    mean, std = np.array(Cifar10.mean)[:, None, None], np.array(Cifar10.std)[:, None, None]
    for root in (tmp_path, tmp_path / "cifar-10-batches-py"):
        data = Cifar10(root=root).load()
        assert np.allclose(data.x_train.numpy(), (pixels - mean) / std, atol=1e-5)
        assert data.y_test.tolist() == batches["test_batch"]["labels"]
        assert data.class_names[3] == "class 3"


def test_cifar_agrees_with_torchvision(tmp_path):
    write_cifar10(tmp_path)
    inside = tmp_path / "cifar-10-batches-py"

    def md5(name: str) -> list[str]:
        return [name, hashlib.md5((inside / name).read_bytes()).hexdigest()]

    class Small(torchvision.datasets.CIFAR10):
        train_list = [md5(name) for name in Cifar10.train_files]  # noqa: RUF012
        test_list = [md5("test_batch")]  # noqa: RUF012
        meta = {"filename": "batches.meta", "key": "label_names", "md5": md5("batches.meta")[1]}  # noqa: RUF012

    data = Cifar10(root=tmp_path).load()
    transform = torchvision.transforms.Compose(
        [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize(Cifar10.mean, Cifar10.std)]
    )
    for train, x, y in ((True, data.x_train, data.y_train), (False, data.x_test, data.y_test)):
        oracle = Small(str(tmp_path), train=train, transform=transform)
        assert torch.allclose(torch.stack([image for image, _ in oracle]), x, atol=1e-6)
        assert [label for _, label in oracle] == y.tolist()
        assert tuple(oracle.classes) == data.class_names


def test_cifar_in_python_2_style_bytes(tmp_path):
    """Python 2 wrote byte strings (opcode U) where Python 3 writes text or bytes."""
    raw = bytes(range(256)) * 12
    content = (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<I", len(raw)) + raw + b"tbs."
    )
    path = tmp_path / "batch"
    path.write_bytes(content)
    assert read_pickle(path)["data"].tobytes() == raw
    assert pickle.loads(content, encoding="latin1")["data"].tobytes() == raw  # the ordinary reader agrees


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["top", "data", "label"])
def test_a_pickle_that_calls_code_is_refused_and_runs_nothing(tmp_path, protocol, where):
    write_cifar10(tmp_path)
    batch, trace = tmp_path / "cifar-10-batches-py" / "data_batch_2", tmp_path / "trace"
    evil = Evil((os.mkdir, (str(trace),)))
    content = {"top": evil, "data": {"data": evil, "labels": []}, "label": {"data": "", "labels": [evil]}}[where]
    batch.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_2: refused: the pickle asks for \w+\.mkdir"):
        Cifar10(root=tmp_path).load()
    assert not trace.exists()
    pickle.loads(batch.read_bytes())
    assert trace.exists()  # it would have run: the test above means something


@pytest.mark.parametrize(
    "content",
    [
        {"data": np.array([print], dtype=object)},
        {"data": np.zeros(3, dtype=[("a", "u1")])},
        {"data": np.zeros(3, dtype=">i8")},
        {"data": np.ma.zeros(3)},
        {"data": np.float64(1)},
        {"data": getattr},
        {"data": Path("x")},
    ],
    ids=str,
)
def test_other_objects_in_a_pickle_are_refused(tmp_path, content):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(DataError, match=r"batch: (refused|found)"):
        read_pickle(path)


@settings(max_examples=sized(20, 60), deadline=None)
@given(st.data())
def test_a_damaged_pickle_is_refused_or_read_as_plain_data(tmp_path_factory, data):
    """Cut anywhere: refused. A byte changed anywhere: refused, or plain data."""
    original = pickle.dumps(
        {"data": np.arange(20, dtype=np.uint8), "labels": [1, 2]}, protocol=data.draw(st.integers(0, 5))
    )
    at = data.draw(st.integers(0, len(original) - 1))
    path = tmp_path_factory.mktemp("damage") / "batch"
    path.write_bytes(original[:at])
    with pytest.raises(DataError, match=f"found {at} bytes that are not a whole pickle"):
        read_pickle(path)
    path.write_bytes(original[:at] + bytes([data.draw(st.integers(0, 255))]) + original[at + 1 :])
    try:
        content: object = read_pickle(path)
    except DataError as error:
        content = str(error)
    assert isinstance(content, dict) or str(path) in str(content)


@pytest.mark.parametrize("protocol", range(6))
def test_names_may_be_bytes(tmp_path, protocol):
    """Python 3 writes each of them as a call with a tuple of texts, up to protocol 2."""
    content = {"filenames": [b"%d.png" % number for number in range(5000)], "data": np.arange(9, dtype=np.int64)}
    (tmp_path / "batch").write_bytes(pickle.dumps(content, protocol))
    read = read_pickle(tmp_path / "batch")
    assert read["filenames"] == content["filenames"]
    assert np.array_equal(read["data"], content["data"])


_TWICE = b"".join(b"h%ch%c\x86q%c" % (number, number, number + 1) for number in range(40))
_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"
_BYTE = b"cnumpy\ndtype\nU\x02u1\x85R"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x80\x02}K\x01K\x01\x86q\x00" + _TWICE + b"K\x01s.", id="a key that takes 2^40 steps"),
        pytest.param(
            b"\x80\x02}\x8b" + struct.pack("<i", 3000) + b"\x7f" * 3000 + b"K\x01s.", id="a key of 24,000 bits"
        ),
        pytest.param(
            b"\x80\x02}U\x01a" + _ARRAY + b"(K\x01U\x01aJ\xff\xff\xff\x0f\x86" + _BYTE + b"\x89U\x01atbs.",
            id="a shape of a text times 268 million",
        ),
        pytest.param(
            b"\x80\x02}U\x01a(c_codecs\nencode\nq\x00X"
            + struct.pack("<I", 1_000_000)
            + b"a" * 1_000_000
            + b"q\x01\x85R"
            + b"h\x00h\x01\x85R" * 900
            + b"ls.",
            id="a text encoded 900 times",
        ),
        pytest.param(b"\x80\x02}r\xff\xff\xff\x7f.", id="a memo of 34 GB"),
        pytest.param(b"}p2147483647\n.", id="a memo of 34 GB, as text"),
        pytest.param(b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"x.", id="a bytearray of 64 GB"),
        pytest.param(b"\x80\x04\x8e" + struct.pack("<Q", 2**36) + b"x.", id="bytes of 64 GB"),
        pytest.param(b"\x80\x02})" + b"\x85" * 3_000_000 + b"K\x01s.", id="a key of tuples three million deep"),
    ],
)
def test_a_few_bytes_do_not_take_the_process_down(tmp_path, content):
    """Each of these kills the interpreter, or fills the memory, when the ordinary reader gets it."""
    path = tmp_path / "batch"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=f"batch: found {len(content)} bytes that are not a whole pickle"):
        read_pickle(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, expected a dictionary"),
        ({"labels": [0]}, r"expected bytes of shape \(samples, 3072\)"),
        ({"data": np.zeros((1, 3072), np.int64), "labels": [0]}, r"expected bytes of shape"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "expected 2 labels from 0 to 9"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "expected 1 labels from 0 to 9"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["a"]}, "expected 1 labels from 0 to 9"),
    ],
)
def test_cifar_batches_that_do_not_fit_are_refused(tmp_path, content, message):
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        Cifar10(root=tmp_path).load()


def test_class_names_are_texts(tmp_path):
    """A few lists, each holding the one before twice, are words beyond number when printed."""
    names: list[object] = ["a"]
    for _ in range(20):
        names = [names, names]
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "batches.meta").write_bytes(pickle.dumps({"label_names": [names] * 10}))
    with pytest.raises(DataError, match="expected 10 names in `label_names`"):
        Cifar10(root=tmp_path).load()
