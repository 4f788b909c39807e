"""What malicious clients do: exactly what they say, at their address, and nothing to anybody else."""

from collections import Counter

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from pydantic import ValidationError
from sizes import sized

from autoflip_secure.attacks.poisoning.dirty_label import DirtyLabel
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Window


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 60), st.floats(0, 1), st.integers(2, 10), st.integers(0, 999))
@settings(max_examples=sized(13, 40), deadline=None)
def test_label_flip_changes_the_stated_share_to_another_class(n: int, share: float, classes: int, seed: int) -> None:
    labels = torch.randint(0, classes, (n,), generator=draw(seed))
    flipped = LabelFlip(share=share).labels(labels, classes, draw(seed))
    assert int((flipped != labels).sum()) == round(share * n)
    assert ((flipped >= 0) & (flipped < classes)).all()
    assert torch.equal(flipped, LabelFlip(share=share).labels(labels, classes, draw(seed)))


def test_flips_to_another_class_are_uniform() -> None:
    labels = torch.full((9000,), 3)
    counts = Counter(LabelFlip(share=1).labels(labels, 10, draw()).tolist())
    assert 3 not in counts
    assert len(counts) == 9
    assert max(abs(c - 1000) for c in counts.values()) < 130  # four standard deviations


def test_pairs_and_target() -> None:
    labels = torch.arange(10)
    assert LabelFlip(share=1, to="pairs").labels(labels, 10, draw()).tolist() == list(range(9, -1, -1))
    assert LabelFlip(share=1, to="pairs", pairs={1: 7}).labels(labels, 10, draw())[1] == 7
    assert set(LabelFlip(share=1, to="target", target=4).labels(labels, 10, draw()).tolist()) == {4}


def test_the_least_likely_class_is_another_one_and_the_samples_are_those_of_other_flips() -> None:
    outputs = torch.tensor([[0.0, -5, 3], [-9, 1, 2], [7, 8, 6], [2, 1, 3], [torch.nan, torch.nan, torch.nan]])
    labels, attack = torch.tensor([0, 0, 2, 1, 2]), LabelFlip(share=1, to="least_likely")
    before = outputs.clone()
    assert attack.labels_under(labels, 3, draw(), outputs).tolist()[:4] == [1, 1, 0, 0]
    assert attack.labels_under(labels, 3, draw(), outputs)[4] != 2
    assert torch.equal(before.nan_to_num(5.5), outputs.nan_to_num(5.5))
    many, third = torch.arange(30) % 10, 0.3
    scores = torch.randn(30, 10, generator=draw(1))
    changed = LabelFlip(share=third, to="least_likely").labels_under(many, 10, draw(7), scores) != many
    assert torch.equal(changed, LabelFlip(share=third).labels(many, 10, draw(7)) != many)
    assert torch.equal(
        LabelFlip(share=1).labels_under(many, 10, draw(7), scores), LabelFlip(share=1).labels(many, 10, draw(7))
    )
    with pytest.raises(LookupError, match="depends on a model"):
        attack.labels(labels, 3, draw())


def test_dirty_labels_are_those_of_one_class_and_no_others() -> None:
    labels = torch.arange(1000) % 10
    of, to = labels == 3, DirtyLabel(of=3, to=8).labels(labels, 10, draw())
    assert torch.equal(to, torch.where(of, 8, labels))
    half = DirtyLabel(of=3, share=0.5).labels(labels, 10, draw())
    assert torch.equal(half[~of], labels[~of])
    assert int((half[of] != 3).sum()) == 50
    counts = Counter(DirtyLabel(of=3).labels(torch.full((9000,), 3), 10, draw()).tolist())
    assert 3 not in counts
    assert max(abs(counts[c] - 1000) for c in range(10) if c != 3) < 130
    with pytest.raises(ValidationError, match="give another one, or null"):
        DirtyLabel(of=3, to=3)
    with pytest.raises(InputError, match="classes 0 to 2"):
        DirtyLabel(of=1, to=7).labels(labels % 3, 3, draw())


def test_inconsistent_flips_are_refused_with_the_way_out() -> None:
    with pytest.raises(ValidationError, match="give both or neither"):
        LabelFlip(to="target")
    with pytest.raises(ValidationError, match="set to: pairs"):
        LabelFlip(pairs={0: 1})
    with pytest.raises(InputError, match="classes 0 to 2"):
        LabelFlip(to="target", target=7).labels(torch.zeros(3, dtype=torch.long), 3, draw())


def test_noise_hits_bad_rows_on_active_coordinates_with_the_stated_size() -> None:
    updates = torch.zeros(3, 20000)
    malicious = torch.tensor([False, True, False])
    active = torch.arange(20000) % 2 == 0
    sent = GaussianNoise(sigma=0.5).updates(updates, malicious, active, [draw(k) for k in range(3)])
    assert not sent[[0, 2]].any()
    assert not sent[1, ~active].any()
    assert float(sent[1, active].std()) == pytest.approx(0.5, rel=0.05)
    assert float(sent[1, active].mean()) == pytest.approx(0, abs=0.02)


def test_relative_noise_has_sigma_times_the_norm_of_the_update() -> None:
    updates = torch.randn(2, 500, generator=draw(5))
    sent = GaussianNoise(sigma=3, relative=True).updates(
        updates, torch.tensor([True, False]), torch.ones(500, dtype=torch.bool), [draw(), draw()]
    )
    assert float((sent[0] - updates[0]).norm()) == pytest.approx(3 * float(updates[0].norm()), rel=1e-4)
    assert torch.equal(sent[1], updates[1])


def test_window_and_explorers_say_when_an_attack_acts() -> None:
    attack = GaussianNoise(window=Window(first=3, last=5), explorers=False)
    assert [r for r in range(8) if attack.active(r)] == [3, 4, 5]
    assert [r for r in range(4) if GaussianNoise().active(r)] == [0, 1, 2, 3]
    with pytest.raises(ValidationError, match="before first"):
        Window(first=5, last=2)
