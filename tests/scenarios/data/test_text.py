"""Text: characters as whole numbers, from LEAF's JSON and from a text in which people speak."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_datasets import SHARED, shared

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.leaf import Leaf
from autoflip_secure.scenarios.data.speakers import Speakers, speeches
from autoflip_secure.scenarios.data.text import LEAF_ALPHABET, token_ids
from tests.helpers.sizes import sized

PLAY = """First:
abcdefghij
klm

Second: nopqrst
uvwxyz

First:
ABCDEFGH

No colon in this block

Third:

Third:
short
"""


def write(folder: Path, text: str = PLAY) -> Path:
    path = folder / "input.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_who_says_what() -> None:
    assert speeches(PLAY) == {
        "First": "abcdefghij\nklm\nABCDEFGH", "Second": "nopqrst\nuvwxyz", "Third": "short"
    }  # fmt: skip
    assert speeches(PLAY.replace("\n", "\r\n")) == speeches(PLAY)
    assert speeches("") == {}


def test_windows_and_their_next_characters_by_hand(tmp_path: Path) -> None:
    write(tmp_path)
    data = Speakers(path=tmp_path, length=3, test_share=0.4, min_samples=2).load()
    alphabet = sorted(set("abcdefghij\nklm\nABCDEFGHnopqrst\nuvwxyzshort"))
    text = {"First": "abcdefghij\nklm\nABCDEFGH", "Second": "nopqrst\nuvwxyz"}  # Third says too little
    train, test, owners = [], [], []
    for owner, said in enumerate(text.values()):
        windows = [said[start : start + 4] for start in range(len(said) - 3)]
        count = int(0.6 * len(windows))
        train += windows[:count]
        owners += [owner] * count
        test += windows[count + 3 :]  # the next three share characters with what was trained on
    rows = [
        "".join(alphabet[int(i)] for i in [*row, label]) for row, label in zip(data.x_train, data.y_train, strict=True)
    ]
    kept = [
        "".join(alphabet[int(i)] for i in [*row, label]) for row, label in zip(data.x_test, data.y_test, strict=True)
    ]
    assert (rows, kept) == (train, test)
    assert data.groups is not None
    assert data.groups.tolist() == owners
    assert data.num_classes == len(alphabet) == len(data.class_names)
    assert data.class_names[:2] == ("\\n", "A")
    assert not data.x_train.is_floating_point()


@settings(max_examples=sized(20, 200), deadline=None)
@given(
    length=st.integers(1, 6), stride=st.integers(1, 5), share=st.floats(0.05, 0.9), size=st.integers(2, 80)
)  # fmt: skip
def test_no_character_that_is_tested_was_trained_on(length: int, stride: int, share: float, size: int) -> None:
    import numpy as np

    config = Speakers(path=Path("x"), length=length, stride=stride, test_share=share)
    train, test = config._windows(np.arange(size))  # each character is its own place
    for rows in (train, test):
        assert (rows[:, 1:] - rows[:, :-1] == 1).all()
    if len(train):
        assert train[0, 0] == 0
        assert (np.diff(train[:, 0]) == stride).all()
        assert not len(test) or test.min() > train.max()
        assert not len(test) or test.min() - train.max() <= stride  # and nothing is wasted


def test_tiny_shakespeare_has_the_speakers_that_its_index_says() -> None:
    text = shared("tinyshakespeare", "input.txt").read_text(encoding="utf-8")
    spans = json.loads(shared("tinyshakespeare", "speakers.json").read_text(encoding="utf-8"))
    found = speeches(text)
    assert len(found) == 299
    assert found == {
        name: "\n".join(text[start:stop].strip("\n") for start, stop in own) for name, own in spans.items()
    }  # fmt: skip


@pytest.mark.slow
def test_tiny_shakespeare(monkeypatch: pytest.MonkeyPatch) -> None:
    shared("tinyshakespeare", "input.txt")
    monkeypatch.setenv("AUTOFLIP_DATA", str(SHARED))
    data = Speakers(path=Path("tinyshakespeare")).load()
    assert data.x_train.shape == (875_535, 80)
    assert data.x_test.shape == (85_362, 80)
    assert data.num_classes == 65
    assert data.groups is not None
    assert len(data.groups.unique()) == 150
    few = Speakers(path=Path("tinyshakespeare"), owners=20, train_samples=2000).load()
    assert few.groups is not None
    assert len(few.x_train) == 2000
    assert len(few.groups.unique()) == 20


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, {}, r"no such file; give the path of a text with `Speaker:` before each speech.*AUTOFLIP_DATA"),
        ("no names here", {}, r"nobody speaks in it; expected blocks between blank lines that begin with `Speaker:`"),
        (PLAY, {}, r"0 of 3 speakers have 64 samples to train on and one to test on; the longest text has 23 char"),
        (
            PLAY,
            {"length": 3, "min_samples": 2, "alphabet": "abc"},
            r"holds the character 'd', which is none of the 3 of",
        ),
        (PLAY, {"alphabet": "aab"}, r"alphabet holds a character twice; name each of its 2 once"),
        (
            PLAY,
            {"length": 3, "min_samples": 2, "test_share": 0.4, "owners": 3},
            r"owners = 3 is more than the 2 that are there",
        ),
    ],
)
def test_texts_that_cannot_be_used(text: str | None, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    if text is not None:
        write(tmp_path, text)
    with pytest.raises(DataError, match=message):
        Speakers(path=path, **options).load()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_bytes(b"A:\nhello \xff\xfe world\n")
    with pytest.raises(DataError, match=r"input.txt: .*save it as UTF-8"):
        Speakers(path=path).load()


def leaf(folder: Path, **users: tuple[list[Any], list[Any]]) -> Path:
    content = {
        "users": [*users],
        "num_samples": [len(x) for x, _ in users.values()],
        "user_data": {user: {"x": x, "y": y} for user, (x, y) in users.items()},
    }
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "all.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_leaf_has_eighty_characters() -> None:
    assert len(LEAF_ALPHABET) == len(set(LEAF_ALPHABET)) == 80
    assert token_ids("", "aZ\n}", LEAF_ALPHABET).tolist() == [LEAF_ALPHABET.index(one) for one in "aZ\n}"]


def test_shakespeare_in_leafs_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf(tmp_path / "shakespeare", HAMLET=(["To be", "o be,"], [",", " "]), OPHELIA=(["My lo", "y lor"], ["r", "d"]))
    monkeypatch.setenv("AUTOFLIP_DATA", str(tmp_path))
    data = Leaf(path=Path("shakespeare")).load()
    assert data.num_classes == 80
    assert data.x_train.tolist()[0] == [LEAF_ALPHABET.index(one) for one in "To be"]
    assert data.y_train.tolist() == [LEAF_ALPHABET.index(one) for one in ", rd"]
    assert data.groups is not None
    assert data.groups.tolist() == [0, 0, 1, 1]
    assert data.class_names[LEAF_ALPHABET.index("d")] == "d"


@pytest.mark.parametrize(
    ("users", "options", "message"),
    [
        (
            {"A": (["abc", "ab"], ["a", "b"])},
            {},
            r"user 'A': sample 2 has 2 characters, the first 3; bring them to one",
        ),
        ({"A": (["ab$"], ["a"])}, {}, r"user 'A': holds the character '\$', which is none of the 80 of the alphabet"),
        ({"A": (["abc"], ["ab"])}, {}, r"y does not hold a single character a sample"),
        ({"A": (["abc"], ["a"]), "B": ([[1, 2, 3]], [0])}, {}, r"user 'B' holds numbers, others before it text"),
        ({"A": (["abc"], ["a"])}, {"alphabet": "ab"}, r"holds the character 'c'"),
        ({"A": (["abc", 3], ["a", "b"])}, {}, r"x holds <U\d+, expected numbers, or text throughout"),
    ],
)
def test_texts_in_json_that_cannot_be_used(
    users: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        Leaf(path=leaf(tmp_path, **users), **options).load()


def test_where_leafs_files_are_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \*\.json files in train .*preprocess\.sh.*AUTOFLIP_DATA"):
        Leaf(path=tmp_path).load()
