"""Models: published sizes, reproducible weights, plain chains, and every way in which a user's model can be wrong."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, Custom, FemnistCnn, McMahanCnn, Mlp, Model
from autoflip_secure.scenarios.models.trial import check_model
from autoflip_secure.seeds import Purpose, generator

ROWS = torch.zeros(2, 1, 8, 8)
PLAIN = (nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.Flatten)

FACTORIES = """
import torch
from torch import nn

def both(num_classes, input_shape, hidden=4):
    size = 1
    for side in input_shape:
        size *= side
    return nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.Dropout(0.5), nn.Linear(hidden, num_classes))

def only_classes(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def neither():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def anything(**keywords):
    assert set(keywords) == {"num_classes", "input_shape", "extra"}
    return only_classes(keywords["num_classes"])

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.last = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.last(self.norm(x).flatten(1))

    @classmethod
    def make(cls, num_classes):
        return cls(num_classes)

def seven_outputs():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))

def wrong_input():
    return nn.Sequential(nn.Flatten(), nn.Linear(63, 10))

def tuple_output():
    class Pair(Net):
        def forward(self, x):
            return x, x
    return Pair(10)

def not_a_number():
    net = neither()
    with torch.no_grad():
        net[1].bias[0] = float("nan")
    return net

def a_string():
    return "net"

def broken():
    raise RuntimeError("no luck")

number = 3
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module ``user_nets`` that can be imported, and one that cannot."""
    (tmp_path / "user_nets.py").write_text(FACTORIES)
    (tmp_path / "user_broken.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    return "user_nets"


MODELS = (Mlp, Cnn, McMahanCnn, Cnn6, FemnistCnn, Custom)
CASES: dict[type[Model], tuple[Model, list[tuple[int, ...]]]] = {
    Mlp: (Mlp(), [(64,), (1, 8, 8), (3, 32, 32)]),
    Cnn: (Cnn(), [(1, 1, 1), (1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 31)]),
    McMahanCnn: (McMahanCnn(), [(1, 4, 4), (1, 28, 28), (3, 32, 32), (3, 30, 33)]),
    FemnistCnn: (FemnistCnn(width=4, hidden=32), [(1, 4, 4), (1, 28, 28), (3, 30, 33)]),
    Cnn6: (Cnn6(), [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 17, 9)]),
    Custom: (Custom(factory="user_nets:both", arguments={"hidden": 5}), [(1, 8, 8), (7,)]),
}


def test_every_chain_has_a_case():
    assert set(CASES) == set(MODELS)


@pytest.mark.parametrize("cls", MODELS)
def test_weights_come_from_the_seed_and_the_global_generator_stays(cls, nets):
    model, shapes = CASES[cls]
    for shape in shapes:
        torch.manual_seed(123)
        before = torch.get_rng_state()
        first, second, other = (model.build(torch.zeros(2, *shape), 10, seed) for seed in (5, 5, 6))
        assert torch.get_rng_state().equal(before)
        weights, same, different = (torch.cat([p.flatten() for p in m.parameters()]) for m in (first, second, other))
        assert weights.equal(same)
        assert not weights.equal(different)
        assert first(torch.randn(3, *shape)).shape == (3, 10)
        assert first.training


@pytest.mark.parametrize("cls", [cls for cls in MODELS if cls is not Custom])
def test_built_in_models_are_plain_traceable_chains_in_which_every_weight_counts(cls):
    model, shapes = CASES[cls]
    for shape in shapes:
        module = model.build(torch.zeros(2, *shape), 7, 0)
        assert isinstance(module, nn.Sequential)
        assert all(type(layer) in PLAIN for layer in module)
        x = torch.randn(4, *shape)
        assert torch.fx.symbolic_trace(module)(x).equal(module(x))
        module(x).logsumexp(1).sum().backward()
        assert all(p.grad is not None for p in module.parameters())
        dense = [layer for layer in module if isinstance(layer, nn.Linear)]
        assert [layer.in_features for layer in dense[1:]] == [layer.out_features for layer in dense[:-1]]


def test_mlp_by_hand():
    """The weights are torch's own, drawn in the order of the layers after seeding with the word at the address."""
    module = Mlp(hidden=(5, 3)).build(torch.zeros(2, 1, 2, 2), 10, 42)
    with torch.random.fork_rng():
        torch.manual_seed(generator(42, Purpose.INITIAL_WEIGHTS).initial_seed())
        layers = [nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(3, 10)]
    x = torch.randn(6, 1, 2, 2)
    assert torch.equal(module(x), layers[2](layers[1](layers[0](x.flatten(1)).relu()).relu()))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def conv(channels: int, filters: int, kernel: int) -> int:
    return filters * (channels * kernel**2 + 1)


def dense(inputs: int, outputs: int) -> int:
    return outputs * (inputs + 1)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (McMahanCnn(), (1, 28, 28), 1_663_370),  # the number in the paper
        (McMahanCnn(), (3, 32, 32), conv(3, 32, 5) + conv(32, 64, 5) + dense(64 * 8 * 8, 512) + dense(512, 10)),
        (Mlp(), (1, 8, 8), dense(64, 128) + dense(128, 64) + dense(64, 10)),
        (Cnn(), (1, 8, 8), conv(1, 16, 3) + conv(16, 32, 3) + dense(32 * 4 * 4, 64) + dense(64, 10)),
        (Cnn(width=4, hidden=6), (3, 28, 28), conv(3, 4, 3) + conv(4, 8, 3) + dense(8 * 7 * 7, 6) + dense(6, 10)),
        (
            Cnn6(),
            (3, 32, 32),
            sum(conv(*c, 3) for c in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)))
            + dense(128 * 4 * 4, 128)
            + dense(128, 10),
        ),
    ],
)
def test_parameter_counts(model, shape, expected):
    assert count(model.build(torch.zeros(2, *shape), 10, 0)) == expected


def test_documented_counts_hold():
    assert count(Cnn().build(ROWS, 10, 0)) == 38_282
    assert count(Cnn6().build(torch.zeros(2, 3, 32, 32), 10, 0)) == 550_570


def test_models_learn_the_digits():
    from autoflip_secure.scenarios.data.datasets import Digits

    data = Digits().load()
    for model in (Mlp(hidden=(32,)), Cnn(width=4, hidden=16)):
        module = model.build(data.x_train[:2], data.num_classes, 1)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(data.x_train), data.y_train).backward()
            optimizer.step()
        accuracy = (module(data.x_test).argmax(1) == data.y_test).double().mean()
        assert accuracy > 0.85


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Cnn(), (64,), r"cnn: samples have shape \(64,\), expected an image .*; use mlp instead"),
        (Cnn6(), (8, 8), r"cnn6: samples have shape \(8, 8\), expected an image"),
        (McMahanCnn(), (1, 3, 28), "mcmahan_cnn: images of 3 x 28 are too small, its pools need at least 4 x 4"),
        (Cnn6(), (3, 32, 7), "cnn6: images of 32 x 7 are too small, its pools need at least 8 x 8"),
    ],
)
def test_inputs_that_do_not_fit_say_so(model, shape, message):
    with pytest.raises(UnsupportedModelError, match=message):
        model.build(torch.zeros(2, *shape), 10, 0)


# ------------------------------------------------------------------------------------------------ a user's own model


@pytest.mark.parametrize("name", ["both", "only_classes", "neither", "Net", "Net.make"])
def test_a_factory_gets_the_keywords_that_its_signature_takes(nets, name):
    module = Custom(factory=f"{nets}:{name}").build(ROWS, 10, 0)
    assert module(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_a_factory_that_takes_anything_gets_everything_and_arguments_arrive(nets):
    assert count(Custom(factory=f"{nets}:anything", arguments={"extra": 1}).build(ROWS, 10, 0)) == 650
    small = Custom(factory=f"{nets}:both", arguments={"hidden": 2}).build(ROWS, 10, 0)
    assert count(small) == dense(64, 2) + dense(2, 10)


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        (
            "user_nets:absent",
            {},
            r"model.factory = 'user_nets:absent': user_nets has no 'absent'; it has Net, a_string, any",
        ),
        ("user_nets:Net.absent", {}, r"Net has no 'absent'; it has .*make"),
        ("user_absent:f", {}, r"cannot import user_absent \(ModuleNotFoundError.*PYTHONPATH"),
        ("user_broken:f", {}, r"cannot import user_broken \(ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("user_nets:number", {}, r"is a int, expected a function or class"),
        ("user_nets:a_string", {}, r"gave a str, expected a torch.nn.Module"),
        ("user_nets:broken", {}, r"failed with RuntimeError: no luck"),
        ("user_nets:both", {"wide": 3}, r"\(got an unexpected keyword argument 'wide'\).*signature \(num_classes, inp"),
    ],
)
def test_a_factory_that_is_wrong_is_named_with_the_reason(nets, factory, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        Custom(factory=factory, arguments=arguments).build(ROWS, 10, 0)
    assert f"model.factory = {factory!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seven_outputs", r"gives outputs of shape \(2, 7\) for 2 samples, expected \(2, 10\).* 10 classes"),
        ("wrong_input", r"failed on 2 samples of shape \(1, 8, 8\), in layer '1' \(Linear\): RuntimeError"),
        ("tuple_output", r"model Pair gives a tuple, expected one tensor"),
        ("not_a_number", r"gives NaN or infinity"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(nets, name, message):
    with pytest.raises(UnsupportedModelError, match=message):
        Custom(factory=f"{nets}:{name}").build(ROWS, 10, 0)


def test_the_trial_leaves_the_module_as_it_was():
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    module[2].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.get_rng_state()
    check_model(module, torch.zeros(2, 2, 2), 2)
    assert torch.get_rng_state().equal(state)
    assert [part.training for part in module.modules()] == [True, True, True, False, True]
    assert all(before[name].equal(tensor) for name, tensor in module.state_dict().items())
    assert math.isclose(float(before["1.running_var"].sum()), 4)


@pytest.mark.parametrize("factory", ["nets", "nets:", ":f", "nets.f", "a b:f", "nets:f()", "../nets:f"])
def test_a_factory_must_be_written_as_module_and_function(factory):
    with pytest.raises(ValidationError):
        Custom(factory=factory)


@pytest.mark.parametrize(
    ("cls", "options"), [(Mlp, {"hidden": ()}), (Mlp, {"hidden": (0,)}), (Cnn, {"width": 0}), (Cnn6, {"widht": 3})]
)
def test_options_are_checked(cls, options):
    with pytest.raises(ValidationError):
        cls(**options)


@pytest.mark.parametrize("cls", MODELS)
def test_every_option_is_described_and_every_kind_has_its_line(cls):
    assert cls.__doc__
    assert [name for name, field in cls.model_fields.items() if not field.description] == ["kind"]
