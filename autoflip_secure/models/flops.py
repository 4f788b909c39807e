"""Floating-point operations of a pass: 2 per multiply-add of every product of matrices, convolution and attention.

Each operation that torch carries out is looked at, with the formulas of :mod:`torch.utils.flop_counter`. What is no
multiply-add (elementwise work, sums, normalisations, pooling, look-ups, copies) counts nothing, as is usual. What is
neither is *unknown*: then there is no number, since it would be too small. Fused kernels that hide their products (an
LSTM in oneDNN, attention of an encoder in evaluation mode) are switched off, so that their parts are seen.

An outer product by broadcasting (``x[:, None] * weight``) is half of a product of matrices, so it counts as one,
backward passes included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose
from autoflip_secure.terminal.counting import some

# Names without underscores in front and behind, and without "_backward".
# fmt: off
_NO_PRODUCTS = frozenset([
    # making, copying and moving numbers
    "arange", "as_strided", "cat", "clone", "constant_pad_nd", "copy", "diag_embed", "empty", "empty_like",
    "empty_strided", "eye", "fill", "flip", "full", "full_like", "lift_fresh", "linspace", "local_scalar_dense",
    "new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "pad_packed_sequence",
    "pack_padded_sequence", "pixel_shuffle", "pixel_unshuffle", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "repeat", "repeat_interleave", "reshape_copy", "resize", "roll",
    "scalar_tensor", "select", "slice", "slice_scatter", "select_scatter", "stack", "to_copy", "tril", "triu",
    "unsafe_split", "unsafe_view", "zero", "zeros", "zeros_like", "set", "im2col", "col2im", "unfold", "masked_fill",
    "channel_shuffle", "split_with_sizes_copy", "block_diag", "bincount", "one_hot", "reshape_alias", "diagonal",
    # random numbers
    "bernoulli", "exponential", "fused_dropout", "multinomial", "native_dropout", "normal", "rand", "rand_like",
    "randint", "randint_like", "randn", "randn_like", "random", "randperm", "uniform", "masked_scale",
    # looking up and ordering
    "argmax", "argmin", "argsort", "bucketize", "embedding", "embedding_bag", "embedding_bag_dense",
    "embedding_bag_per_sample_weights", "embedding_dense", "embedding_renorm", "equal", "gather", "index", "index_add",
    "index_copy", "index_fill", "index_put", "index_put_impl", "index_select", "isin", "kthvalue", "masked_scatter",
    "masked_select", "median", "mode", "nonzero", "scatter", "scatter_add", "scatter_reduce", "searchsorted", "sort",
    "take", "topk", "unique", "unique2", "unsafe_index", "unsafe_index_put", "value_selecting_reduction",
    "embedding_bag_forward_only", "assert_async", "assert_scalar", "is_nonzero", "foreach_add", "histc", "where",
    # sums, extremes and norms
    "all", "amax", "amin", "aminmax", "any", "count_nonzero", "cummax", "cummin", "cumprod", "cumsum",
    "linalg_vector_norm", "logcumsumexp", "logsumexp", "max", "mean", "min", "norm", "prod", "std", "std_mean", "sum",
    "trace", "var", "var_mean", "nansum",
    # activations and losses
    "binary_cross_entropy", "gelu", "glu", "log_softmax", "logit", "mse_loss", "nll_loss", "nll_loss2d", "prelu_kernel",
    "rrelu_with_noise", "safe_softmax", "smooth_l1_loss", "softmax", "huber_loss", "log_sigmoid_forward", "log_sigmoid",
    "nll_loss_forward", "nll_loss2d_forward", "softplus", "hardswish", "hardtanh", "leaky_relu", "elu", "threshold",
    # normalising
    "batch_norm_impl_index", "batch_norm_with_update", "fused_rms_norm", "native_batch_norm", "native_channel_shuffle",
    "native_batch_norm_legit", "native_batch_norm_legit_no_training", "native_group_norm", "native_layer_norm",
    "weight_norm_interface", "batch_norm",
    # pooling and resampling
    "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool2d",
    "avg_pool3d", "fractional_max_pool2d", "max_pool2d_with_indices", "max_pool3d_with_indices", "max_unpool2d",
    "upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d",
    "upsample_nearest3d", "upsample_trilinear3d",
])
# fmt: on
_aten = torch.ops.aten
_FACTORS: dict[Any, slice] = {  # which arguments are multiplied, where not all tensors are
    _aten.addmm: slice(1, 3),
    _aten.baddbmm: slice(1, 3),
    _aten.addmv: slice(1, 3),
    _aten.convolution: slice(0, 2),
    _aten._convolution: slice(0, 2),
}


@dataclass
class Operations:
    """What was counted in a pass."""

    total: int = 0
    of_weights: Counter[str] = field(default_factory=Counter)  # by weight that takes part, with its backward passes
    unknown: dict[str, str] = field(default_factory=dict)  # operation -> name of the module that it is in

    @property
    def of_one_weight(self) -> bool:
        """Whether each operation is that of a single weight with numbers that follow from inputs alone."""
        return self.total == sum(self.of_weights.values())

    def of_smaller(self, left: Mapping[str, tuple[int, int]]) -> int:
        """Operations that are left of those of weights, in proportion: name -> its numbers now, and those counted."""
        return sum(flops * left[name][0] // left[name][1] for name, flops in self.of_weights.items())

    @property
    def problem(self) -> str | None:
        """Why there is no number; None: there is one."""
        if not self.unknown:
            return None
        named = [f"{name} in {f'layer {place!r}' if place else 'the model'}" for name, place in self.unknown.items()]
        return (
            f"operations are not counted: what {some(named, 3)} costs is not known; "
            "use matrix products, convolutions or attention of torch"
        )


@contextmanager
def counting(weights: Mapping[str, Tensor]) -> Iterator[Operations]:
    """Count what is run inside, on the CPU.

    Args:
        weights: whose part in the operations is told; found by the memory they lie in.
    """
    found = Operations()
    with _in_parts(), ModuleTracker() as tracker, _Watch(found, weights, tracker):
        yield found


@contextmanager
def _in_parts() -> Iterator[None]:
    """Inside, kernels that do several operations at once are done in parts."""
    fused, backends = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn
    onednn = backends.enabled
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        backends.enabled = False  # type: ignore[assignment]
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        backends.enabled = onednn


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation, below autograd, so that tensors still say whether a gradient is wanted of them."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and to say so to the compiler would import it: four processor seconds."""
        return False

    def __init__(self, found: Operations, weights: Mapping[str, Tensor], tracker: ModuleTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found, self._tracker = found, tracker
        places = Counter(map(_memory, weights.values()))
        self._names = {_memory(w): name for name, w in weights.items() if places[_memory(w)] == 1}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet not in flop_registry and packet not in _OWN and not _no_product(func):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        factors = [x for x in args[_FACTORS.get(packet, slice(None))] if isinstance(x, Tensor)]
        if packet in flop_registry:
            flops = int(flop_registry[packet](*args, **kwargs, out_val=out))
            self._add(flops, factors)
        elif packet in _OWN:
            flops = _OWN[packet](factors, out)
            wanted = sum(x.requires_grad for x in factors) if torch.is_grad_enabled() and packet in _MULTIPLY else 0
            self._add(flops, factors, more=wanted * flops)
        elif not _no_product(func):
            layers = [name.partition(".")[2] for name in self._tracker.parents if name != "Global"]
            self._found.unknown.setdefault(str(packet), max(layers, key=len, default=""))
        return out

    def _add(self, flops: int, factors: list[Tensor], more: int = 0) -> None:
        """Note an operation; ``more``: of its backward pass, where that is not seen."""
        self._found.total += flops + more
        read = {self._names[_memory(x)] for x in factors if _memory(x) in self._names}
        again = self._tracker.is_bw and torch.is_grad_enabled()  # a forward pass that is repeated for the backward one
        if len(read) != 1 or (self._tracker.is_bw and not again):
            return
        # backward, as much again for each factor that wants a gradient; noted here, where it is known whose it is
        wanted = sum(x.requires_grad for x in factors) if torch.is_grad_enabled() and not again else 0
        self._found.of_weights[read.pop()] += flops * (1 + wanted)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@lru_cache(maxsize=1024)
def _no_product(func: Any) -> bool:
    """Whether an operation has no multiply-adds in it: elementwise, a view, or in the list."""
    if func.namespace != "aten":
        return bool(func.namespace == "prim")
    name = func.overloadpacket.__name__.strip("_")  # add_ is add
    for end in ("_data", "_backward"):
        name = name.removesuffix(end)
    base = getattr(_aten, name, None)
    alike = [func, *(getattr(base, overload) for overload in (base.overloads() if base is not None else ()))]
    return name in _NO_PRODUCTS or any(torch.Tag.pointwise in one.tags or one.is_view for one in alike)


def _outer(factors: list[Tensor], out: Tensor) -> int:
    """2 per number of an outer product; nothing for a product number by number."""
    return 2 * out.numel() if len(factors) == 2 and out.numel() > max(x.numel() for x in factors) else 0


def _matrix_vector(factors: list[Tensor], out: Tensor) -> int:
    return 2 * max(x.numel() for x in factors)


_MULTIPLY = (_aten.mul, _aten.dot, _aten.vdot)  # whose backward passes are elementwise
_OWN: dict[Any, Any] = {
    _aten.mul: _outer,
    _aten.mv: _matrix_vector,
    _aten.addmv: _matrix_vector,
    _aten.dot: _matrix_vector,
    _aten.vdot: _matrix_vector,
}


def count_pass(module: nn.Module, inputs: Tensor, weights: Mapping[str, Tensor], *, training: bool) -> Operations:
    """Operations of a forward pass of ``module`` in evaluation mode, or of a training step's two passes."""
    with drawing_at(0, Purpose.FORWARD):  # dropout must not shift anybody's draws
        if training:
            with torch.enable_grad(), counting(weights) as found:
                module.train()(inputs).sum().backward()
        else:
            with torch.no_grad(), counting(weights) as found:
                module.eval()(inputs)
    return found
