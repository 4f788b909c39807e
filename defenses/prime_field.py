r"""The field of the proofs: integers modulo the Mersenne prime p = 2^61 - 1.

In the ring of 64-bit integers half of all elements have no inverse, so an error of 2^63 would pass every second check.
In a field a polynomial of degree 2 that is not zero has at most two roots of p. Sums of up to seven shares fit into 64
bits unsigned, so CrypTen reveals them as it reveals any other.

.. math:: 2^{61} \equiv 1, \quad a = a_1 2^{31} + a_0 \;\Rightarrow\;
          ab \equiv 2 a_1 b_1 + (a_1 b_0 + a_0 b_1) 2^{31} + a_0 b_0
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from defenses.shares import uniform

P = 2**61 - 1
_LOW, _MIDDLE = 2**31 - 1, 2**30 - 1


def fold(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Any signed 64-bit integers as elements in [0, p)."""
    return torch.remainder((x & P) + (x >> 61), P)


def summed(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """What a sum of up to seven elements, modulo 2^64, stands for."""
    return fold((x & P) + ((x >> 61) & 7))


def element(x: int) -> int:
    """Any integer as an element in [0, p)."""
    return x % P


def signed(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Elements as the integers between -p/2 and p/2 that they stand for."""
    return torch.where(x > P // 2, x - P, x)


def times(a: Int[Tensor, "*_"], b: Int[Tensor, "*_"]) -> Int[Tensor, "*_"]:
    """Products of elements; broadcasts."""
    a1, a0, b1, b0 = a >> 31, a & _LOW, b >> 31, b & _LOW
    middle = a1 * b0 + a0 * b1
    low = a0 * b0
    return fold(2 * (a1 * b1) + (middle >> 30) + ((middle & _MIDDLE) << 31) + (low & P) + (low >> 61))


def total(x: Int[Tensor, " n"]) -> int:
    """Sum of elements."""
    return element((int((x >> 31).sum()) << 31) + int((x & _LOW).sum()))


def scalar(x: int) -> Int[Tensor, ""]:
    """An element as a tensor."""
    return torch.tensor(element(x), dtype=torch.int64)


def mixed(weights: Int[Tensor, " 64"], words: Int[Tensor, " params"]) -> Int[Tensor, " params"]:
    """For each word the sum of the elements whose bit is set in it; a byte at a time, from tables."""
    found = torch.zeros_like(words)
    for place, eight in enumerate(weights.view(8, 8)):
        table = torch.zeros(1, dtype=torch.int64)
        for weight in eight:
            table = torch.cat([table, fold(table + weight)])
        found = fold(found + table[words >> 8 * place & 255])
    return found


def elements(count: int) -> Int[Tensor, " count"]:
    """Uniform elements, from the operating system: 61 bits, drawn again where they are p."""
    found = uniform(count) & P
    while bool((again := found == P).any()):
        found[again] = uniform(int(again.sum())) & P
    return found


def split_elements(row: Int[Tensor, " n"], parties: int) -> list[Int[Tensor, " n"]]:
    """One share per party; they sum to ``row`` modulo p, and any but all of them are uniform."""
    shares = [elements(len(row)) for _ in range(parties - 1)]
    last = row
    for share in shares:
        last = fold(last - share)
    return [*shares, last]
