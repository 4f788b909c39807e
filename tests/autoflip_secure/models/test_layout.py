"""Layout: where each tensor lies in the flat vector, and what it is."""

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models import layout as layout_module
from autoflip_secure.models.layout import Layout


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 16, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


class OutOfOrder(nn.Module):
    """Layers registered in another order than they are used; one is never used, one buffer is derived."""

    scale: Tensor
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)
        self.first = nn.Linear(5, 6)
        self.norm = nn.BatchNorm1d(6, affine=False)
        self.unused = nn.Linear(6, 7)
        self.shift = nn.Parameter(torch.zeros(()))
        self.register_buffer("scale", torch.ones(5))
        self.register_buffer("table", torch.ones(9), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x * self.scale)) + self.shift)


class Recurrent(nn.Module):
    """Embedding tied to the decoder; the loop over time depends on data, so tracing fails."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.decoder = nn.Linear(8, 11)
        self.decoder.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embedding(x)
        for _ in range(int(x.max()) % 2 + 1):
            hidden = self.lstm(hidden)[0]
        return self.decoder(hidden)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm = nn.RMSNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.encoder(x + self.token)).mean(1))


MODELS = [conv_net, OutOfOrder, Recurrent, Attention, lambda: nn.Linear(4, 2, bias=False)]


@pytest.mark.parametrize("make", MODELS)
def test_round_trip(make) -> None:
    module, other = make(), make()
    layout = Layout.of(module)
    vector = layout.vector(module)
    assert vector.shape == (layout.size,)
    assert [s.start for s in layout] == [0, *(s.stop for s in layout)][:-1]
    layout.load(other, vector)
    saved = module.state_dict()
    for segment in layout:
        assert torch.equal(other.state_dict()[segment.name], saved[segment.name])
    assert torch.equal(layout.vector(other), vector)
    assert torch.equal(layout.flatten(layout.tensors(vector)), vector)
    floats = {id(t) for t in module.state_dict(keep_vars=True).values() if t.is_floating_point()}
    assert len(layout.segments) == len(floats)  # each tensor once, none forgotten


def test_every_coordinate_reaches_the_module() -> None:
    module = conv_net()
    layout = Layout.of(module)
    wanted = torch.arange(layout.size, dtype=torch.float32)
    layout.load(module, wanted)
    assert torch.equal(layout.vector(module), wanted)
    assert module[3].weight[1, 2, 0, 1] == layout["3.weight"].start + ((1 * 4 + 2) * 3 + 0) * 3 + 1


def test_kinds_and_exemptions_of_a_convolutional_net() -> None:
    layout = Layout.of(conv_net())
    kinds = {s.name: s.kind for s in layout}
    assert kinds == {
        **{f"{i}.{n}": n for i in (0, 3, 6, 8) for n in ("weight", "bias")},
        "1.weight": "norm",
        "1.bias": "norm",
        "1.running_mean": "buffer",
        "1.running_var": "buffer",
    }
    assert [s.name for s in layout.hidden] == ["3.weight", "6.weight"]  # not the first convolution, not the output
    assert {s.name for s in layout if s.output} == {"8.weight", "8.bias"}
    assert {s.name for s in layout if s.normalised} == {"0.weight", "0.bias"}
    assert int(layout.prunable.sum()) == 5 * 4 * 9 + 6 * 80
    assert int((~layout.trained).sum()) == 8
    assert [[s.name for s in group] for group in layout.layers] == [[f"{i}.weight", f"{i}.bias"] for i in (0, 3, 6, 8)]


def test_order_of_use_counts_not_order_of_registration() -> None:
    layout = Layout.of(OutOfOrder())
    assert {s.name for s in layout if s.output} == {"last.weight", "last.bias"}
    assert [s.name for s in layout.hidden] == ["first.weight"]  # the unused layer may not be pruned
    assert {s.name for s in layout if s.normalised} == {"first.weight", "first.bias"}
    assert "table" not in {s.name for s in layout}
    assert layout["shift"].shape == ()
    assert layout["scale"].kind == "buffer"


class Backwards(nn.Sequential):
    """Its layers in another order than nn.Sequential takes them."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(self):
            x = layer(x)
        return x


def twice() -> nn.Module:
    one = nn.Linear(6, 6)
    return nn.Sequential(one, nn.Linear(6, 6), one)


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (conv_net, True),
        (lambda: nn.Sequential(nn.Linear(5, 6), nn.Sequential(nn.LSTM(6, 4), nn.Identity()), nn.LayerNorm(4)), True),
        (lambda: Backwards(nn.Linear(6, 3), nn.Linear(5, 6)), False),
        (lambda: nn.Sequential(Backwards(nn.Linear(6, 3), nn.Linear(5, 6))), False),
        (lambda: nn.Sequential(OutOfOrder()), False),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6))), False),
        (twice, False),
    ],
    ids=["plain", "nested", "backwards", "backwards inside", "of one's own", "parametrised", "used twice"],
)
def test_a_forward_pass_that_is_known_is_not_traced_and_has_the_same_order(
    make: Callable[[], nn.Module], known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make()
    assert layout_module._in_turn(module, dict(module.named_modules())) == known
    found = Layout.of(module)
    monkeypatch.setattr(layout_module, "_in_turn", lambda *_: False)
    assert Layout.of(module) == found


def test_untraceable_and_tied() -> None:
    layout = Layout.of(Recurrent())
    names = [s.name for s in layout]
    assert "embedding.weight" in names
    assert "decoder.weight" not in names
    assert layout["embedding.weight"].output  # it is the decoder's too
    assert {s.name for s in layout.hidden} == {"lstm.weight_ih_l0", "lstm.weight_hh_l0"}


def test_transformer() -> None:
    layout = Layout.of(Attention())
    assert layout["norm.weight"].kind == layout["encoder.norm1.weight"].kind == "norm"
    assert layout["encoder.self_attn.in_proj_weight"].hidden
    assert layout["encoder.self_attn.out_proj.weight"].hidden
    assert layout["head.weight"].output
    assert not layout["encoder.linear2.weight"].output


def test_tensors_are_views() -> None:
    layout = Layout.of(conv_net())
    rows = torch.zeros(2, 3, layout.size)
    tensors = layout.tensors(rows)
    assert tensors["3.weight"].shape == (2, 3, 5, 4, 3, 3)
    tensors["3.weight"][1, 2, 4, 3, 2, 2] = 7
    assert rows[1, 2, layout["3.weight"].stop - 1] == 7
    vector = layout.vector(module := conv_net())
    vector.zero_()
    assert layout.vector(module).any()  # a copy


def test_tracing_leaves_the_module_alone() -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.last: object = None

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.layer(x)
            return self.layer(x)

    module = Remembering()
    Layout.of(module)
    assert module.last is None


def test_layout_survives_pickling_and_compares_by_value() -> None:
    layout = Layout.of(conv_net())
    assert layout.prunable.any()
    assert pickle.loads(pickle.dumps(layout)) == layout
    assert Layout.of(conv_net()) == layout
    assert Layout.of(nn.Linear(2, 2)) != layout


def test_no_parameters() -> None:
    with pytest.raises(UnsupportedModelError, match="ReLU has no parameters"):
        Layout.of(nn.ReLU())


def test_frozen_tensors_are_coordinates_of_their_own_kind() -> None:
    module = conv_net()
    module[3].weight.requires_grad_(False)
    module[8].bias.requires_grad_(False)
    module[1].requires_grad_(False)
    layout = Layout.of(module)
    assert {s.name for s in layout if s.frozen} == {"3.weight", "8.bias", "1.weight", "1.bias"}
    assert [s.name for s in layout.hidden] == ["6.weight"]
    assert {s.name for s in layout if s.output} == {"8.weight", "8.bias"}  # frozen or not
    assert [[s.name for s in group] for group in layout.layers] == [
        ["0.weight", "0.bias"], ["3.bias"], ["6.weight", "6.bias"], ["8.weight"],
    ]  # fmt: skip
    buffers = layout.where(*(s for s in layout if s.kind == "buffer"))
    assert torch.equal(layout.sent, layout.trained | buffers)
    assert torch.equal(layout.frozen, ~layout.sent)
    rows = torch.randn(2, layout.size)
    assert torch.equal(layout.of_sent(rows), rows[:, layout.sent])
    assert torch.equal(layout.spread(layout.of_sent(rows), layout.sent), rows * layout.sent)
    assert torch.equal(layout.still(rows), rows * layout.sent)
    free = Layout.of(conv_net())
    assert free.of_sent(rows) is rows
    assert free.still(rows) is rows
    assert free.spread(rows, free.sent) is rows


def test_a_tied_weight_is_frozen_for_all_its_owners() -> None:
    module = Recurrent()
    module.decoder.weight.requires_grad_(False)
    module.lstm.weight_ih_l0.requires_grad_(False)
    layout = Layout.of(module)
    assert {s.name for s in layout if s.frozen} == {"embedding.weight", "lstm.weight_ih_l0"}
    assert [s.name for s in layout.hidden] == ["lstm.weight_hh_l0"]
