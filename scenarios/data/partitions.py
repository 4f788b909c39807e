r"""Who owns which training samples: every sample lands at exactly one client, and no client is empty.

iid           a random permutation, cut into equal parts
dirichlet     of each class c, client k gets the share :math:`p_{ck}`, with :math:`p_c \sim \mathrm{Dir}(\alpha 1_K)`
pathological  exactly so many classes per client, each class cut into equal parts among its owners
by_group      the samples' natural owners

A partition only deals; what it dealt is judged here, alike for all of them.
Sources: McMahan et al. 2017 (shards, of which `pathological` is the exact form); Hsu et al. 2019 (Dirichlet).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Plugin

Rows = NDArray[np.int64]


class Partition(Plugin, ABC):
    """Deals the training samples to the clients."""

    def split(
        self,
        labels: Int[Tensor, " n"],
        clients: int,
        num_classes: int,
        groups: Int[Tensor, " n"] | None,
        rng: np.random.Generator,
    ) -> tuple[Int[Tensor, " _"], ...]:
        """The training rows of every client.

        Args:
            labels: class of every training sample, 0 to num_classes - 1.
            clients: number of clients, K.
            num_classes: number of classes, C.
            groups: natural owner of every sample; only ``by_group`` looks at it.
            rng: the draw of this partition.

        Returns:
            K ascending int64 vectors; together each row of 0 … n-1 exactly once, none empty.

        Raises:
            InputError: the numbers do not allow it; says which to change, and to what.
        """
        y = labels.numpy().astype(np.int64)
        if not 1 <= clients <= len(y):
            raise InputError(
                f"clients = {clients} must lie between 1 and the {len(y)} training samples, so that no client is "
                "empty; change clients, or the data set's train_samples"
            )
        if y.min() < 0 or y.max() >= num_classes:
            raise InputError(f"labels run from {y.min()} to {y.max()}, expected 0 to {num_classes - 1}")
        parts = self.deal(y, clients, None if groups is None else groups.numpy().astype(np.int64), rng)
        sizes = [len(part) for part in parts]
        if len(parts) != clients or min(sizes) == 0:
            raise InputError(
                f"{type(self).__name__} left {clients - np.count_nonzero(sizes)} of {clients} clients empty"
            )
        if not np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y))):
            raise InputError(f"{type(self).__name__} did not deal every sample exactly once")
        return tuple(torch.from_numpy(np.sort(part).astype(np.int64)) for part in parts)

    @abstractmethod
    def deal(self, labels: Rows, clients: int, groups: Rows | None, rng: np.random.Generator) -> list[Rows]:
        """One array of rows per client; 1 <= clients <= n holds already."""


class Iid(Partition):
    """Every client draws from the same distribution; sizes differ by one sample at most."""

    kind: Literal["iid"] = "iid"
    source: ClassVar[str] = "McMahan et al. 2017, section 3"

    def deal(self, labels: Rows, clients: int, groups: Rows | None, rng: np.random.Generator) -> list[Rows]:
        """A random permutation in equal parts."""
        return list(np.array_split(rng.permutation(len(labels)), clients))


class Dirichlet(Partition):
    """Class shares per client drawn from a Dirichlet distribution: skewed classes and skewed sizes."""

    kind: Literal["dirichlet"] = "dirichlet"
    source: ClassVar[str] = "Hsu et al. 2019: p_c ~ Dir(alpha)"
    alpha: Annotated[float, Field(ge=1e-3, le=1e6, description="concentration; small = skewed, large = IID")] = 0.3
    min_samples: Annotated[int, Field(ge=1, description="samples that every client has at least")] = 1

    def deal(self, labels: Rows, clients: int, groups: Rows | None, rng: np.random.Generator) -> list[Rows]:
        """One draw. Clients below ``min_samples`` are then filled up, sample by sample, from whoever is largest.

        Filling up moves a handful of samples; drawing again until it fits would favour even draws, and need not end.
        """
        if clients * self.min_samples > len(labels):
            raise InputError(
                f"dirichlet: min_samples = {self.min_samples} for each of {clients} clients needs "
                f"{clients * self.min_samples} training samples, {len(labels)} are there; give min_samples <= "
                f"{len(labels) // clients}, or fewer clients"
            )
        parts: list[list[int]] = [[] for _ in range(clients)]
        for c in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == c))
            shares = rng.dirichlet(np.full(clients, self.alpha))
            cuts = np.floor(np.cumsum(shares)[:-1] * len(rows) + 1e-9).astype(np.int64)
            for part, own in zip(parts, np.split(rows, cuts), strict=True):
                part.extend(own.tolist())
        sizes = np.array([len(part) for part in parts])
        for poor in np.flatnonzero(sizes < self.min_samples):
            while sizes[poor] < self.min_samples:
                rich = int(np.argmax(sizes))
                parts[poor].append(parts[rich].pop(int(rng.integers(sizes[rich]))))
                sizes[poor] += 1
                sizes[rich] -= 1
        return [np.array(part, dtype=np.int64) for part in parts]


class Pathological(Partition):
    """Every client owns exactly `classes_per_client` classes; each class is shared evenly among its owners."""

    kind: Literal["pathological"] = "pathological"
    source: ClassVar[str] = "McMahan et al. 2017, section 3, with exact numbers of classes"
    classes_per_client: Annotated[int, Field(ge=1, description="different classes that each client owns")] = 2

    def deal(self, labels: Rows, clients: int, groups: Rows | None, rng: np.random.Generator) -> list[Rows]:
        """Owners per class first, as even as the class sizes allow; then classes to clients; then samples to owners."""
        classes, counts = np.unique(labels, return_counts=True)
        each, slots = self.classes_per_client, clients * self.classes_per_client
        if each > len(classes):
            raise InputError(
                f"pathological: classes_per_client = {each} is more than the {len(classes)} classes; give at most that"
            )
        if slots < len(classes):
            raise InputError(
                f"pathological: {clients} clients x classes_per_client = {each} own {slots} classes at most, and all "
                f"{len(classes)} need an owner; give classes_per_client >= {-(-len(classes) // clients)}, or "
                f"clients >= {-(-len(classes) // each)}"
            )
        limit = np.minimum(counts, clients)  # an owner needs a sample, and owns a class once
        if limit.sum() < slots:
            raise InputError(
                f"pathological: {clients} clients x classes_per_client = {each} need {slots} shares of a class with a "
                f"sample in each, the class sizes allow {limit.sum()}; give fewer clients, a smaller "
                f"classes_per_client, or more train_samples"
            )
        owners: list[list[int]] = [[] for _ in classes]
        left = _even_owners(limit, slots, rng)
        for client in rng.permutation(clients):
            order = rng.permutation(len(classes))
            for c in order[np.argsort(-left[order], kind="stable")[:each]]:  # always the most wanting: never stuck
                owners[c].append(int(client))
                left[c] -= 1
        parts: list[list[Rows]] = [[] for _ in range(clients)]
        for c, own in zip(classes, owners, strict=True):
            rows = np.array_split(rng.permutation(np.flatnonzero(labels == c)), len(own))
            for client, share in zip(rng.permutation(own), rows, strict=True):
                parts[client].append(share)
        return [np.concatenate(part) for part in parts]


def _even_owners(limit: Rows, slots: int, rng: np.random.Generator) -> Rows:
    """Owners per class, summing to ``slots``: as even as ``limit`` allows, ties at random, at least one each."""
    counts = np.ones_like(limit)
    for _ in range(slots - len(limit)):
        open_ = np.flatnonzero(counts < limit)
        least = open_[counts[open_] == counts[open_].min()]
        counts[rng.choice(least)] += 1
    return counts


class ByGroup(Partition):
    """Natural owners, such as the writers of digits; several owners per client when there are fewer clients."""

    kind: Literal["by_group"] = "by_group"
    source: ClassVar[str] = "Caldas et al. 2018 (LEAF)"

    def deal(self, labels: Rows, clients: int, groups: Rows | None, rng: np.random.Generator) -> list[Rows]:
        """Groups, largest first (ties at random), dealt round-robin to the clients."""
        if groups is None:
            raise InputError(
                "by_group: the data set names no owners; use mnist with `groups: FILE.npz`, an npz with an array "
                "`groups`, a table or huggingface with `owner: COLUMN`, leaf, a function of yours that returns "
                "groups, or another partition"
            )
        _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
        if clients > len(counts):
            raise InputError(
                f"by_group: clients = {clients} is more than the {len(counts)} groups in the data; "
                f"give clients <= {len(counts)}"
            )
        order = rng.permutation(len(counts))
        order = order[np.argsort(-counts[order], kind="stable")]
        owner = np.empty(len(counts), dtype=np.int64)
        owner[order] = np.arange(len(counts)) % clients
        return [np.flatnonzero(owner[inverse] == client) for client in range(clients)]


PARTITIONS: tuple[type[Partition], ...] = (Iid, Dirichlet, Pathological, ByGroup)
