"""Partitions: exactly once, never empty, feasible by an independent count, distributed as theory says."""

from collections import Counter
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sizes import sized

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.data.partitions import PARTITIONS, ByGroup, Dirichlet, Iid, Partition, Pathological
from autoflip_secure.seeds import Purpose, numpy_generator

DIGITS = torch.arange(1400) % 10


def rng(seed: int = 0) -> np.random.Generator:
    return numpy_generator(seed, Purpose.PARTITION)


def feasible(partition: Partition, labels: list[int], clients: int, owners: list[int] | None) -> bool:
    """Whether the numbers allow it, counted without arrays."""
    if not 1 <= clients <= len(labels):
        return False
    if isinstance(partition, Dirichlet):
        return clients * partition.min_samples <= len(labels)
    if isinstance(partition, Pathological):
        counts, each = Counter(labels), partition.classes_per_client
        shares = sum(min(count, clients) for count in counts.values())
        return each <= len(counts) <= clients * each <= shares
    if isinstance(partition, ByGroup):
        return owners is not None and clients <= len(set(owners))
    return True


CASES: dict[type[Partition], st.SearchStrategy[Partition]] = {
    Iid: st.just(Iid()),
    Dirichlet: st.builds(Dirichlet, alpha=st.sampled_from([1e-3, 0.1, 0.3, 10, 1e6]), min_samples=st.integers(1, 4)),
    Pathological: st.builds(Pathological, classes_per_client=st.integers(1, 5)),
    ByGroup: st.just(ByGroup()),
}


def test_every_partition_has_a_case():
    assert set(CASES) == set(PARTITIONS)


@pytest.mark.parametrize("cls", PARTITIONS)
@settings(max_examples=sized(40, 120), deadline=None)
@given(data=st.data())
def test_every_sample_lands_once_and_nobody_is_empty_or_there_is_an_error(cls, data):
    partition = data.draw(CASES[cls])
    labels = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=90))
    clients = data.draw(st.integers(1, 25))
    owners = data.draw(st.none() | st.lists(st.integers(-3, 30), min_size=len(labels), max_size=len(labels)))
    groups = None if owners is None else torch.tensor(owners)
    arguments = (torch.tensor(labels), clients, 6, groups)
    if not feasible(partition, labels, clients, owners):
        with pytest.raises(InputError):
            partition.split(*arguments, rng())
        return
    parts = partition.split(*arguments, rng())
    assert len(parts) == clients
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    assert all(len(part) >= getattr(partition, "min_samples", 1) for part in parts)
    assert all(part.dtype == torch.int64 and part.tolist() == sorted(part.tolist()) for part in parts)
    again = partition.split(*arguments, rng())
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    if isinstance(partition, Pathological):
        owned = [{labels[row] for row in part.tolist()} for part in parts]
        assert {len(classes) for classes in owned} == {partition.classes_per_client}
        for c in set(labels):
            shares = [sum(labels[row] == c for row in part.tolist()) for part in parts]
            held = [share for share in shares if share]
            assert max(held) - min(held) <= 1
    if owners is not None and isinstance(partition, ByGroup):
        keepers = [{owners[row] for row in part.tolist()} for part in parts]
        assert sum(map(len, keepers)) == len(set(owners))  # no owner is cut


@pytest.mark.parametrize("fault", ["lost", "twice", "empty", "client too few"])
def test_the_judge_catches_a_partition_that_deals_badly(fault):
    class Bad(Partition):
        """Deals badly."""

        kind: Literal["bad"] = "bad"

        def deal(self, labels, clients, groups, rng):
            rows = np.arange(6)
            return {
                "lost": [rows[:3], rows[3:5]],
                "twice": [rows[:3], rows[2:]],
                "empty": [rows, rows[:0]],
                "client too few": [rows],
            }[fault]

    with pytest.raises(InputError, match="Bad "):
        Bad().split(torch.zeros(6, dtype=torch.int64), 2, 2, None, rng())


# ------------------------------------------------------------------------------------------------ each kind


def test_iid_sizes_differ_by_one_and_rows_are_mixed():
    parts = Iid().split(DIGITS, 33, 10, None, rng())
    assert {len(part) for part in parts} == {42, 43}
    other = Iid().split(DIGITS, 33, 10, None, rng(1))
    assert not torch.equal(parts[0], other[0])
    spread = Iid().split(DIGITS, 2, 10, None, rng())[0]
    assert abs(spread.double().mean() - 699.5) < 5 * 1400 / np.sqrt(12 * 1400)


def dirichlet_variance(alpha: float, clients: int) -> float:
    """Variance of the share of a class that a client gets, measured over many draws."""
    shares = []
    for seed in range(60):
        parts = Dirichlet(alpha=alpha).split(DIGITS, clients, 10, None, rng(seed))
        shares.append([np.bincount(DIGITS[part].numpy(), minlength=10) / 140 for part in parts])
    return float(np.var(np.array(shares)))


@pytest.mark.parametrize("alpha", [0.3, 1.0, 10.0])
def test_dirichlet_shares_have_the_variance_of_theory(alpha):
    """Var p = (1/K)(1 - 1/K)/(alpha K + 1); and the measure tells alpha from twice alpha."""
    clients = 5
    theory = [(1 / clients) * (1 - 1 / clients) / (a * clients + 1) for a in (alpha, 2 * alpha)]
    measured = dirichlet_variance(alpha, clients)
    assert abs(measured / theory[0] - 1) < 0.12
    assert abs(measured / theory[1] - 1) > 0.3


def test_dirichlet_fills_up_poor_clients_and_moves_no_more():
    labels = torch.arange(300) % 3
    poor = Dirichlet(alpha=0.01).split(labels, 40, 3, None, rng())
    rich = Dirichlet(alpha=0.01, min_samples=7).split(labels, 40, 3, None, rng())
    assert min(map(len, poor)) == 1
    assert min(map(len, rich)) == 7
    kept = [len(set(a.tolist()) & set(b.tolist())) for a, b in zip(poor, rich, strict=True)]
    assert all(k == len(a) for k, a in zip(kept, poor, strict=True) if 1 < len(a) <= 7)


def test_pathological_is_mcmahans_split_made_exact():
    parts = Pathological().split(DIGITS, 20, 10, None, rng())
    owned = [tuple(DIGITS[part].unique().tolist()) for part in parts]
    assert {len(classes) for classes in owned} == {2}
    assert Counter(c for classes in owned for c in classes) == dict.fromkeys(range(10), 4)
    assert {len(part) for part in parts} == {70}
    other = Pathological().split(DIGITS, 20, 10, None, rng(1))
    assert owned != [tuple(DIGITS[part].unique().tolist()) for part in other]
    pairs = {
        p
        for seed in range(30)
        for p in (tuple(DIGITS[q].unique().tolist()) for q in Pathological().split(DIGITS, 20, 10, None, rng(seed)))
    }
    assert len(pairs) == 45  # every pair of classes occurs


def test_pathological_gives_a_rare_class_fewer_owners():
    labels = torch.tensor([0] * 50 + [1] * 50 + [2])
    parts = Pathological(classes_per_client=1).split(labels, 9, 3, None, rng())
    owners = Counter(int(labels[part][0]) for part in parts)
    assert owners == {0: 4, 1: 4, 2: 1}


def test_by_group_deals_the_largest_first():
    groups = torch.tensor([7] * 5 + [1] * 3 + [9] * 2 + [4])
    parts = ByGroup().split(torch.zeros(11, dtype=torch.int64), 2, 2, groups, rng())
    assert [sorted(set(groups[part].tolist())) for part in parts] == [[7, 9], [1, 4]]


@pytest.mark.slow
def test_by_group_on_the_writers_of_mnist(shared_data):
    from autoflip_secure.scenarios.data.datasets import Mnist

    data = Mnist(root=shared_data, groups=shared_data / "QMNIST" / "mnist_writers.npz").load()
    one_each = ByGroup().split(data.y_train, 539, 10, data.groups, rng())
    assert all(len(data.groups[part].unique()) == 1 for part in one_each)
    assert sum(map(len, one_each)) == 60000
    shared = ByGroup().split(data.y_train, 20, 10, data.groups, rng())
    assert {len(data.groups[part].unique()) for part in shared} == {26, 27}
    with pytest.raises(InputError, match="clients = 540 is more than the 539 groups in the data; give clients <= 539"):
        ByGroup().split(data.y_train, 540, 10, data.groups, rng())


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("partition", "labels", "clients", "message"),
    [
        (Iid(), DIGITS, 1401, "clients = 1401 must lie between 1 and the 1400 training samples"),
        (Iid(), DIGITS, 0, "clients = 0 must lie between 1"),
        (Iid(), DIGITS + 1, 4, "labels run from 1 to 10, expected 0 to 9"),
        (Dirichlet(min_samples=15), DIGITS, 100, "needs 1500 training samples, 1400 are there; give min_samples <= 14"),
        (Pathological(classes_per_client=11), DIGITS, 20, "classes_per_client = 11 is more than the 10 classes"),
        (Pathological(), DIGITS, 4, "give classes_per_client >= 3, or clients >= 5"),
        (Pathological(), DIGITS[:15], 10, "need 20 shares of a class with a sample in each, the class sizes allow 15"),
        (ByGroup(), DIGITS, 4, "the data set names no owners"),
    ],
)
def test_impossible_numbers_say_how_to_change_them(partition, labels, clients, message):
    with pytest.raises(InputError, match=message):
        partition.split(labels, clients, 10, None, rng())


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (Dirichlet, {"alpha": 0}),
        (Dirichlet, {"min_samples": 0}),
        (Pathological, {"classes_per_client": 0}),
        (Iid, {"alpha": 1}),
    ],
)
def test_options_are_checked(cls, options):
    with pytest.raises(ValidationError):
        cls(**options)
