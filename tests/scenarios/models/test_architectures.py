"""Networks of the literature by name: published sizes, and all that a run does with a model, on small forms of them."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from processes import PATIENCE
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.module_checks import check as check_private
from autoflip_secure.defenses.privacy.module_checks import fixed
from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.interfaces import ClientJob, PrivateSteps, TrainingSchedule
from autoflip_secure.models.compaction import compact, same_outputs
from autoflip_secure.models.costs import CostModel
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.memory_formats import channels_last
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.scenarios.config.sizes import refuse_huge
from autoflip_secure.scenarios.data.base import Dataset
from autoflip_secure.scenarios.models.architectures import MODELS
from autoflip_secure.scenarios.models.base import Model
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, Custom, FemnistCnn, McMahanCnn, Mlp
from autoflip_secure.scenarios.models.rehearsal import rehearse_building, rehearse_evaluation, trial_rows
from autoflip_secure.scenarios.models.rehearsal_training import (
    Rehearsal,
    rehearse_passes,
    rehearse_sending,
    rehearse_training,
    rehearse_units,
)
from autoflip_secure.scenarios.models.resnet import ResNet18, ResNet20
from autoflip_secure.scenarios.models.text import Lstm, Transformer
from autoflip_secure.scenarios.models.vision import EfficientNetB3, MobileNetV2
from autoflip_secure.training import SequentialTrainer, choose_trainer

GREY, COLOUR, TEXT = (1, 8, 8), (3, 16, 16), (12,)
TOKENS, CLASSES = 20, 20


def rows(shape: tuple[int, ...], count: int = 6) -> Tensor:
    source = torch.Generator().manual_seed(1)
    if len(shape) == 1:
        return torch.randint(0, TOKENS, (count, *shape), generator=source)
    return torch.randn(count, *shape, generator=source)


def parameters(model: Model, shape: tuple[int, ...], classes: int) -> int:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return sum(p.numel() for p in model.make(shape, classes).parameters())


@pytest.mark.parametrize(
    ("model", "shape", "classes", "count"),
    [
        (McMahanCnn(), (1, 28, 28), 10, 1_663_370),  # McMahan et al. 2017
        (McMahanCnn(), (3, 28, 28), 10, 1_664_970),  # as the authors of AutoFLIP count it on CIFAR-10
        (McMahanCnn(width=128), (3, 28, 28), 100, 7_303_524),  # and on CIFAR-100
        (FemnistCnn(), (1, 28, 28), 62, 6_603_710),  # LEAF
        (Cnn6(), (3, 32, 32), 10, 550_570),
        (ResNet20(), (3, 32, 32), 10, 272_474),  # 269,722 with parameter-free shortcuts, and 2,752 for 1x1 ones
        (ResNet20(norm="group"), (3, 32, 32), 10, 272_474),
        (ResNet18(), (3, 32, 32), 10, 11_173_962),
        (ResNet18(stem="imagenet"), (3, 64, 64), 1000, 11_689_512),  # torchvision's
        (MobileNetV2(), (3, 32, 32), 1000, 3_504_872),  # torchvision's
        (MobileNetV2(), (3, 32, 32), 10, 2_236_682),
        (MobileNetV2(), (3, 64, 64), 200, 2_480_072),
        (EfficientNetB3(), (3, 32, 32), 1000, 12_233_232),  # torchvision's
        (EfficientNetB3(), (3, 24, 24), 10, 10_711_602),
        (Lstm(), (80,), 80, 819_920),  # LEAF
        (Transformer(), (80,), 80, 115_536),
    ],
    ids=lambda value: value.kind if isinstance(value, Model) else str(value),
)
def test_sizes_are_the_published_ones(model: Model, shape: tuple[int, ...], classes: int, count: int) -> None:
    assert parameters(model, shape, classes) == count


def test_sizes_by_hand() -> None:
    def lstm(inputs: int, state: int) -> int:
        return 4 * state * (inputs + state + 2)

    assert parameters(Lstm(embedding=3, hidden=5, layers=2), (7,), 11) == 33 + lstm(3, 5) + lstm(5, 5) + 11 * 6
    block = 4 * (8 * 9) + (8 * 6 + 6) + (6 * 8 + 8) + 4 * 8
    said = Transformer(width=8, heads=2, layers=3, hidden=6)
    assert parameters(said, (7,), 11) == 11 * 8 + 7 * 8 + 3 * block + 2 * 8 + 11 * 9
    conv = [3 * 4, 4 * 4, 4 * 4, 4 * 8, 8 * 8, 8 * 16, 16 * 16]  # 3x3, one block a stage
    norms = [4, 4, 4, 8, 8, 8, 16, 16, 16]
    expected = 9 * sum(conv) + 4 * 8 + 8 * 16 + 2 * sum(norms) + 16 * 5 + 5
    assert parameters(ResNet20(width=4, blocks=1), (3, 8, 8), 5) == expected


#: a small form, the shape it is tried on, how it trains, whether its units are known, whether it trains privately
CASES: dict[str, tuple[Model, tuple[int, ...], str, bool, bool]] = {
    "femnist_cnn": (FemnistCnn(width=4, hidden=8), GREY, "stacked", True, True),
    "cnn": (Cnn(width=4, hidden=8, channels_last=True), GREY, "stacked", True, True),
    "mcmahan_cnn": (McMahanCnn(width=4, hidden=8, channels_last=True), GREY, "stacked", True, True),
    "cnn6": (Cnn6(width=2, hidden=8, channels_last=True), COLOUR, "stacked", True, True),
    "resnet20": (ResNet20(width=4, blocks=1), COLOUR, "sequential", True, False),
    "resnet20-group": (ResNet20(width=4, blocks=1, norm="group", group_size=2), GREY, "stacked", True, True),
    "resnet18": (ResNet18(width=4), GREY, "sequential", True, False),
    "resnet18-imagenet": (ResNet18(width=4, stem="imagenet"), (3, 32, 32), "sequential", True, False),
    "resnet18-group": (ResNet18(width=8, norm="group", group_size=4), GREY, "stacked", True, True),
    "mobilenet_v2": (MobileNetV2(width=0.1), COLOUR, "sequential", True, False),
    "mobilenet_v2-group": (MobileNetV2(width=0.1, norm="group", dropout=0.0), COLOUR, "sequential", True, True),
    "efficientnet_b3": (EfficientNetB3(width=0.1, depth=0.1), COLOUR, "sequential", True, False),
    "efficientnet_b3-group": (
        EfficientNetB3(width=0.1, depth=0.1, norm="group", dropout=0.0, drop_path=0.0),
        COLOUR, "stacked", True, True,
    ),
    "lstm": (Lstm(hidden=8), TEXT, "sequential", False, False),
    "transformer": (Transformer(width=8, heads=2, layers=1, hidden=12), TEXT, "stacked", True, True),
    "transformer-full": (
        Transformer(width=8, heads=2, layers=1, hidden=12, attention="full"), TEXT, "stacked", True, True,
    ),
}  # fmt: skip
NAMES = [name if name in ("resnet20", "lstm") else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


def test_every_model_has_a_case() -> None:
    assert {type(model) for model, *_ in CASES.values()} | {Mlp, Custom} == set(MODELS)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_finds_what_it_needs(name: str) -> None:
    """Layout, trainer, operations, units; a smaller network that gives the same outputs; or the reason why not."""
    model, shape, trainer, has_units, _ = CASES[name]
    x = rows(shape)
    module = model.build(x, CLASSES, 3)
    layout = Layout.of(module)
    assert layout.prunable.any()
    assert not layout.prunable[layout[_last(layout)].slice].any()
    assert choose_trainer(module, layout, x).kind == trainer
    units, reason = None, "ok"
    try:
        units = find_units(module, x)
    except UnsupportedModelError as error:
        reason = str(error)
    assert (units is not None) == has_units, reason
    costs = CostModel(module, layout, units, reason, x[:1], 4)
    dense = costs.forward(torch.ones(layout.size, dtype=torch.bool))
    assert dense.dense is not None
    assert dense.dense > 0
    if units is None:
        assert "LSTM is neither a fully connected layer nor a convolution" in reason
        assert dense.compacted is None
        return
    source = torch.Generator().manual_seed(2)
    kept = [torch.rand(group.units, generator=source) > 0.5 for group in units.groups[:-1]]
    kept = [one if one.any() else torch.ones_like(one) for one in kept] + [torch.ones(units.groups[-1].units) > 0]
    mask = units.keep_units(kept, layout)
    small = compact(module, units, layout, layout.vector(module), mask).eval()
    masked = copy.deepcopy(module).eval()
    layout.load(masked, layout.vector(module) * units.close(mask, layout))
    with torch.no_grad():
        assert same_outputs(small(x), masked(x))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in module.parameters())
    compacted = costs.forward(mask).compacted
    assert compacted is not None
    assert compacted < dense.dense


def _last(layout: Layout) -> str:
    return next(segment.name for segment in layout if segment.output and segment.kind == "weight")


@pytest.mark.parametrize("name", NAMES)
def test_models_of_the_package_pass_the_rehearsal_that_they_are_spared(name: str) -> None:
    model, shape, _, _, private = CASES[name]
    x, y = rows(shape), torch.arange(6) % CLASSES
    data = Dataset("made", x, y, x[:3], y[:3], CLASSES, None, tuple(map(str, range(CLASSES))))
    found = trial_rows(data)
    module = model.build(found, CLASSES, 1)
    steps = PrivateSteps(1.0, 0.0) if private else None
    play = Rehearsal(module, data, TrainingSchedule(), steps, fit)
    rehearse_building(lambda seed: model.build(found, CLASSES, seed), found, 1)
    rehearse_evaluation(module, found, CLASSES)
    rehearse_passes(play)
    rehearse_sending(play)
    rehearse_training(play, choose_trainer(module, Layout.of(module), x, private=fit))
    rehearse_units(play)


@pytest.mark.parametrize("name", NAMES)
def test_what_trains_privately_is_said(name: str) -> None:
    model, shape, _, _, private = CASES[name]
    module = model.build(rows(shape), CLASSES, 1)
    if private:
        check_private(module, per_sample=True)
        return
    with pytest.raises(UnsupportedModelError, match=r"BatchNorm|LSTM"):
        check_private(module, per_sample=True)
    check_private(fixed(module), per_sample=True)


def test_norm_groups_are_of_one_size_and_at_most_as_large_as_said() -> None:
    for channels, size, groups in ((16, 8, 2), (4, 8, 1), (24, 8, 3), (10, 4, 5), (7, 2, 7), (12, 5, 3)):
        layer = ResNet20(norm="group", group_size=size).norm_layer()(channels)
        assert isinstance(layer, nn.GroupNorm)
        assert layer.num_groups == groups
        assert channels / groups <= size


def test_residual_blocks_by_hand() -> None:
    net: Any = ResNet20(width=4, blocks=1).build(rows(COLOUR), 5, 0).eval()
    x = rows(COLOUR)
    block, first = net.blocks[1], net.blocks[0]

    def normed(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
        return x / (1 + layer.eps) ** 0.5  # untrained statistics, mean 0 and variance 1

    stem = normed(net.stem[1], net.stem[0](x)).relu()
    stay = normed(first.norm2, first.conv2(normed(first.norm1, first.conv1(stem)).relu())) + stem
    inner = normed(block.norm2, block.conv2(normed(block.norm1, block.conv1(stay.relu())).relu()))
    short = normed(block.shortcut[1], block.shortcut[0](stay.relu()))
    torch.testing.assert_close(block(first(net.stem(x))), (inner + short).relu())


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (
            ResNet18(stem="imagenet"),
            (3, 28, 28),
            "resnet18: images of 28 x 28 are too small, its pools need at least 32",
        ),
        (MobileNetV2(), (3, 4, 4), "mobilenet_v2: images of 4 x 4 are too small"),
        (ResNet20(), (64,), "resnet20: samples have shape .64,., expected an image"),
    ],
)
def test_images_that_do_not_fit_are_refused(model: Model, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        model.build(torch.zeros(2, *shape), 10, 0)


def test_a_network_that_is_too_large_is_counted_without_being_made() -> None:
    with pytest.raises(UnsupportedModelError, match="choose a smaller one"):
        refuse_huge(ResNet18(width=65536), (3, 32, 32), 10)


TRAINED = """
import torch
from autoflip_secure.scenarios.models.resnet import ResNet20

x = torch.rand(4, 3, 8, 8)
module = ResNet20(width=4, blocks=1).build(x, 5, 0)
for _ in range(50):
    module(x).sum().backward()
"""


def test_thin_strided_convolutions_keep_their_channels_first() -> None:
    """There oneDNN writes beyond its memory on processors with AVX2 and no more."""
    x = rows(COLOUR, 8)
    assert not channels_last(ResNet20(width=4, blocks=1).build(x, 5, 0))
    module = ResNet20(width=16, blocks=1).build(x, 5, 0)
    layout, units = Layout.of(module), find_units(module, x)
    assert channels_last(module)
    for left, last in ((4, False), (8, True)):
        kept = [torch.arange(group.units) < left for group in units.groups]
        mask = units.keep_units([*kept[:-1], torch.ones_like(kept[-1])], layout)
        assert channels_last(compact(module, units, layout, layout.vector(module), mask)) is last
    wanted = {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", TRAINED], env=os.environ | wanted, check=True, timeout=PATIENCE)


@pytest.mark.parametrize("model", [ResNet20(width=8, blocks=1), Cnn6(width=4, hidden=8, channels_last=True)])
def test_channels_last_trains_to_the_same_weights_up_to_rounding(model: Model) -> None:
    x, y = rows(COLOUR, 8), torch.arange(8) % 5
    module = model.build(x, 5, 0)
    plain = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    layout = Layout.of(module)
    assert channels_last(module)
    assert not channels_last(plain)
    job = [ClientJob(layout.vector(module), torch.arange(8), y, 0, (1, 0))]
    one, other = (
        SequentialTrainer().train(net, layout, x, job, TrainingSchedule(epochs=1, batch_size=4)).updates
        for net in (module, plain)
    )
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in module.parameters() if p.dim() == 4)
