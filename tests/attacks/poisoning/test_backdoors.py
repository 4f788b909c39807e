"""Triggers, their parts, and what is done to updates that carry them: by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attacked_cohort import MALICIOUS, attacked, problem, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from torch import Tensor

from autoflip_secure.attacks.poisoning.backdoor import Backdoor
from autoflip_secure.attacks.poisoning.model_replacement import ModelReplacement
from autoflip_secure.attacks.poisoning.neurotoxin import Neurotoxin, most_moved
from autoflip_secure.attacks.poisoning.norm_bound import NormBound
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import InputView, SeveralAttacks, largest_values


def seen(x: Tensor, member: int = 0, seed: int = 0) -> InputView:
    y, draws = torch.arange(len(x)) % 4, torch.Generator().manual_seed(seed)
    return InputView(x, y, 4, largest_values(x), member, draws)


def test_a_square_is_stamped_pixel_by_pixel_in_its_corner_and_in_all_channels() -> None:
    x = torch.randn(6, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    corners = {
        "top_left": (range(2), range(2)),
        "top_right": (range(2), range(5, 7)),
        "bottom_left": (range(3, 5), range(2)),
        "bottom_right": (range(3, 5), range(5, 7)),
    }
    for corner, (tall, wide) in corners.items():
        for value in (None, -2.5):
            stamped = Backdoor.model_validate({"size": 2, "corner": corner, "value": value}).triggered(
                x, largest_values(x)
            )
            for sample in range(6):
                for channel in range(2):
                    bright = max(x[:, channel].flatten().tolist()) if value is None else value
                    for row in range(5):
                        for column in range(7):
                            inside = row in tall and column in wide
                            expected = bright if inside else float(before[sample, channel, row, column])
                            assert float(stamped[sample, channel, row, column]) == expected
    assert torch.equal(x, before), "not in place"


def test_of_other_samples_the_trigger_is_on_given_places_or_the_last_ones() -> None:
    x = torch.arange(24.0).view(4, 6)
    largest = [18.0, 19.0, 20.0, 21.0, 22.0, 23.0]
    for attack, places in ((Backdoor(features=(4, 1)), (1, 4)), (Backdoor(size=2), (2, 3, 4, 5))):
        stamped = attack.triggered(x, largest_values(x)).tolist()
        for row, own in zip(stamped, x.tolist(), strict=True):
            assert row == [largest[j] if j in places else own[j] for j in range(6)]
    image = torch.zeros(2, 1, 3, 3)
    assert Backdoor(features=(0, 8), value=1.0).triggered(image, largest_values(image))[0].flatten().tolist() == [
        1, 0, 0, 0, 0, 0, 0, 0, 1,
    ]  # fmt: skip


def test_the_samples_with_the_trigger_are_those_with_the_target_and_the_others_keep_both() -> None:
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    attack = Backdoor(share=0.3, target=3, value=7.0)
    view = seen(x)
    stamped, labels = attack.inputs(view), attack.labels(view.labels, 4, torch.Generator().manual_seed(0))
    chosen = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:12].tolist()
    for k in range(40):
        assert bool((stamped[k, 0, 5:, 5:] == 7).all()) == (k in chosen)
        assert torch.equal(stamped[k, 0, :5], x[k, 0, :5])
        assert int(labels[k]) == (3 if k in chosen else k % 4)
    with pytest.raises(InputError, match="class 9, and the data has classes 0 to 3"):
        Backdoor(target=9).labels(view.labels, 4, torch.Generator())


@settings(max_examples=sized(8, 60), deadline=None)
@given(parts=st.integers(1, 9), size=st.integers(3, 5), channels=st.integers(1, 3))
def test_parts_are_apart_and_together_the_whole_trigger(parts: int, size: int, channels: int) -> None:
    """DBA: nobody stamps the whole, members go round the parts, and the test has all of them."""
    x = torch.zeros(5, channels, 6, 6)
    attack = Backdoor(share=1.0, size=size, value=1.0, trigger_parts=parts)
    own = [attack.inputs(seen(x, member)) for member in range(parts)]
    whole = attack.triggered(x, largest_values(x))
    assert torch.equal(sum(own, torch.zeros_like(x)), whole), "each place is in one part"
    assert all(one.any() for one in own)
    assert torch.equal(attack.inputs(seen(x, parts + 1)), own[1 % parts])
    assert float(whole[0, 0].sum()) == size**2


def test_pixels_of_a_part_are_a_run_row_by_row() -> None:
    x = torch.zeros(1, 1, 4, 4)
    attack = Backdoor(share=1.0, size=3, value=1.0, trigger_parts=3, corner="top_left")
    assert [attack.inputs(seen(x, k))[0, 0].nonzero()[:, 0].tolist() for k in range(3)] == [[k] * 3 for k in range(3)]


IMAGES, FLAT = torch.zeros(1, 3, 8, 9), torch.zeros(1, 6)


@pytest.mark.parametrize(
    ("attack", "x", "key", "said"),
    [
        (Backdoor(), torch.zeros(1, 6, dtype=torch.int64), "kind", "tokens.*an attack on labels, or write an InputAtt"),
        (Backdoor(features=(3, 6)), FLAT, "features", "6: a sample has 6 numbers, so places are 0 to 5"),
        (Backdoor(size=9), IMAGES, "size", "9: images are 8 x 9; give at most 8, or features"),
        (Backdoor(size=3), FLAT, "size", "last size² = 9 numbers of a sample, which has 6; give less, or features"),
        (Backdoor(size=2, trigger_parts=5), IMAGES, "trigger_parts", "5: the trigger has 4 places"),
        (Backdoor(features=(0, 1, 1), trigger_parts=3), FLAT, "trigger_parts", "3: the trigger has 2 places"),
    ],
)
def test_options_that_do_not_go_with_the_inputs(attack: Backdoor, x: Tensor, key: str, said: str) -> None:
    found = attack.fault(x)
    assert found is not None
    assert found[0] == key
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(found[1])
    assert Backdoor(size=2, trigger_parts=4).fault(x.float()) is None


def test_a_mean_with_model_replacement_is_the_malicious_model_and_an_nth_of_the_honest_updates() -> None:
    """w + (1/n) (sum of (n/f) u_bad + sum of u_honest), which is mean(w_bad) where honest clients have converged."""
    trained = rows()
    bad, honest = list(MALICIOUS), [k for k in range(10) if k not in MALICIOUS]
    trained[honest] *= 1e-6
    found = attacked(ModelReplacement(), 1, trained)
    replaced = problem().initial + found.step
    theirs = torch.stack([problem().initial + trained[k] * found.active for k in bad]).mean(0)
    assert torch.allclose(replaced, theirs, atol=1e-6)
    boosted = attacked(ModelReplacement(factor=4.0), 1, trained)
    assert torch.allclose(boosted.lies, 4 * trained[bad] * found.active)


def test_a_bound_shortens_what_is_longer_and_nothing_else() -> None:
    trained = rows()
    trained[5] *= 1e-3
    [typical] = (
        torch.where(problem().layout.trained, trained, 0.0)[[k for k in range(10) if k not in MALICIOUS]]
        .norm(dim=1)
        .median()
        .view(1)
    )
    boosted = SeveralAttacks(
        attacks=(ModelReplacement(clients=MALICIOUS, factor=50.0), NormBound(clients=MALICIOUS, norm=2.0))
    )
    found = attacked(boosted, 1, trained)
    long = torch.where(found.active, trained[2], 0.0)
    assert torch.allclose(found.lies[0], long / long.norm() * 2 * typical, rtol=1e-5)
    assert torch.allclose(found.lies[1], 50 * torch.where(found.active, trained[5], 0.0)), "short enough"


def test_neurotoxin_spares_what_the_last_step_moved_most() -> None:
    step = torch.tensor([0.1, -9.0, 3.0, 0.0, -2.0, 8.0, 0.0, 1.0])
    active = torch.tensor([True, True, True, True, True, False, True, True])
    assert most_moved(step, active, 0.43).nonzero().squeeze(1).tolist() == [1, 2, 4]  # round(0.43 * 7)
    assert most_moved(step, active, 0.99).nonzero().squeeze(1).tolist() == [0, 1, 2, 4, 7], "what did not move is free"
    assert not most_moved(step, active, 0.0).any()


def test_neurotoxin_remembers_the_model_of_the_round_before_and_begins_as_trained() -> None:
    first = attacked(Neurotoxin(share=0.1), 1)
    assert torch.equal(first.sent, first.trained), "no step yet"
    memory: Any = first.attacked.memory
    [(number, seen_model)] = memory.of.values()
    assert number == 1
    assert torch.equal(seen_model, problem().initial)
    moved = torch.zeros_like(seen_model)
    moved[3], moved[11] = 5.0, -4.0
    later = attacked(Neurotoxin(share=0.1), 3, memory=type(memory)({(0, -1): (1, seen_model - moved)}))
    expected = later.trained[list(MALICIOUS)] * later.active
    expected[:, [3, 11]] = 0.0
    assert torch.equal(later.lies, expected)
    honest = [k for k in range(10) if k not in MALICIOUS]
    assert torch.equal(later.sent[honest], later.trained[honest])
