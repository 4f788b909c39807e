"""The embedded digits, subsets that keep shares of classes, and what records say of data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.base import Dataset, feature_scale, stratified
from autoflip_secure.scenarios.data.datasets import (
    Digits,
)

# ------------------------------------------------------------------------------------------ digits, subsets


def test_digits_are_the_embedded_images_split_once_and_for_all():
    from sklearn.datasets import load_digits

    data, whole = Digits().load(), load_digits()
    assert (len(data.x_train), len(data.x_test)) == (1438, 359)
    assert data.x_train.min() == 0
    assert data.x_train.max() == 1
    ours = sorted(
        zip(
            [tuple(x) for x in torch.cat([data.x_train, data.x_test]).flatten(1).mul(16).int().tolist()],
            torch.cat([data.y_train, data.y_test]).tolist(),
            strict=True,
        )
    )
    theirs = sorted(zip([tuple(x) for x in whole.data.astype(int).tolist()], whole.target.tolist(), strict=True))
    assert ours == theirs
    shares = data.y_test.bincount() / data.y_train.bincount()
    assert ((shares - 0.25).abs() < 0.01).all()


def test_subset_keeps_class_shares_is_fixed_and_comes_from_the_whole():
    whole, part = Digits().load(), Digits(train_samples=200, test_samples=50).load()
    assert (len(part.y_train), len(part.y_test)) == (200, 50)
    assert set(map(tuple, part.x_train.flatten(1).tolist())) <= set(map(tuple, whole.x_train.flatten(1).tolist()))
    assert (part.y_train.bincount() - whole.y_train.bincount() * 200 / 1438).abs().max() <= 1
    assert Digits(train_samples=200).load().x_train.equal(part.x_train)


@pytest.mark.parametrize("size", [9, 1439])
def test_impossible_subset_says_the_bounds(size):
    with pytest.raises(DataError, match=rf"digits: train_samples = {size} must lie between 10 .* and 1438"):
        Digits(train_samples=size).load()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.data())
def test_stratified_takes_every_class_and_its_share(labels, draw):
    y = np.array(labels)
    classes, counts = np.unique(y, return_counts=True)
    size = draw.draw(st.integers(len(classes), len(y)))
    rows = stratified(y, size, np.random.default_rng(0))
    assert len(rows) == size == len(set(rows.tolist()))
    taken = np.array([(y[rows] == c).sum() for c in classes])
    assert (taken >= 1).all()
    share = 1 + (size - len(classes)) * (counts - 1) / max(1, len(y) - len(classes))
    assert (np.abs(taken - share) < 1).all()


# -------------------------------------------------------------------------------------------- what records say of data


def test_the_scale_of_features_is_that_of_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(5000, 2, 3)).astype(np.float32) * np.float32(10.0) ** np.arange(3)
    x[:, 1, 1] += 1e6  # far from zero is not scaled either, however little it varies
    by_hand = np.sqrt((x.astype(np.float64).reshape(5000, 6) ** 2).mean(0))
    found = feature_scale(torch.from_numpy(x))
    assert (found.columns, found.where) == (6, 4)
    assert found.largest == pytest.approx(by_hand[4], rel=1e-3)
    assert found.typical == pytest.approx(np.sort(by_hand)[2], rel=1e-3)
    huge = feature_scale(torch.full((3, 2), 3e38))  # squares that single precision cannot hold
    assert huge.largest == pytest.approx(3e38, rel=1e-3)


def test_a_record_knows_what_guessing_gives_and_that_tokens_have_no_scale() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    parts = {
        "name": "x",
        "y_train": labels,
        "y_test": labels,
        "num_classes": 3,
        "groups": None,
        "class_names": ("a", "b", "c"),
    }
    table = Dataset(x_train=torch.ones(4, 2), x_test=torch.ones(4, 2), **parts).record
    assert (table.classes, table.largest_class) == (3, 0.75)
    assert table.features is not None
    tokens = torch.full((4, 2), 30_000)
    assert Dataset(x_train=tokens, x_test=tokens, **parts).record.features is None
