"""Which modules DP-SGD can take, and what can be done about the others.

Clipping one sample's gradient bounds what the sample can do only if nothing else carries it: not the other samples'
gradients (normalisation over a batch), not a buffer that the forward changes (running statistics).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose

TOLERANCE = 1e-4  # of a sample's scores in one company against another, relative to the largest score
_NORMS = nn.modules.batchnorm._NormBase  # BatchNorm and InstanceNorm


def check(module: nn.Module, *, per_sample: bool = True) -> None:
    """Refuse layers that mix samples, keep statistics of them, or are known to give no per-sample gradients.

    Args:
        module: in any mode.
        per_sample: False: only updates are clipped and noised (client level), so layers need no per-sample gradients.

    Raises:
        UnsupportedModelError: names the first layer, and offers the fix.
    """
    for name, layer in _refused(module, per_sample):
        raise UnsupportedModelError(
            f"privacy: the model {type(module).__name__} has {_named(name, layer)}, which {_why(layer)}; set "
            "privacy.replace_unsupported_layers: true to replace such layers (BatchNorm with GroupNorm), or choose "
            "another model"
        )


def check_separate(module: nn.Module, inputs: Shaped[Tensor, "rows ..."]) -> None:
    """Refuse modules in whose training one sample touches another, or a buffer; a copy is tried on up to three inputs.

    Raises:
        UnsupportedModelError: says what was seen.
    """
    net = copy.deepcopy(module).train()
    one, other = (torch.stack([inputs[0], inputs[k % len(inputs)]]) for k in (1, 2))
    before = {name: buffer.clone() for name, buffer in net.named_buffers() if buffer.is_floating_point()}
    scores = []
    for pair in (one, other):
        with torch.no_grad(), drawing_at(0, Purpose.FORWARD):  # the same random draws, whatever the forward draws
            scores.append(net(pair))
    buffers = dict(net.named_buffers())
    moved = next((name for name, buffer in before.items() if not torch.equal(buffers[name], buffer)), None)
    if moved is not None:
        raise UnsupportedModelError(
            f"privacy: buffer {moved!r} of the model {type(module).__name__} changes while it trains, and would leave "
            "the client without noise; remove it, or choose another model"
        )
    if not all(isinstance(found, Tensor) and found.dim() == 2 for found in scores):
        return  # no class scores: the trainer says so
    first, second = scores[0][0], scores[1][0]
    if (first - second).abs().max() > TOLERANCE * (1 + first.abs().max()):
        raise UnsupportedModelError(
            f"privacy: the model {type(module).__name__} gives a sample different scores in different batches, so "
            "single samples' gradients cannot be clipped; remove what mixes samples (a mean over the batch, a "
            "normalisation), or choose another model"
        )


def fixed(module: nn.Module) -> nn.Module:
    """A copy in which the layers that :func:`check` refuses are replaced by Opacus's, all other weights unchanged.

    Raises:
        UnsupportedModelError: there is a layer without a replacement.
    """
    from opacus.validators import ModuleValidator

    repaired = copy.deepcopy(module)
    made: dict[int, nn.Module] = {}
    for name, layer in list(_refused(repaired, True)):
        fixer = _of_type(ModuleValidator.FIXERS, layer)
        problem = "Opacus has none"
        if id(layer) not in made and fixer is not None:
            try:
                with torch.random.fork_rng(devices=[]), quiet():
                    made[id(layer)] = _as_frozen(_forgetful(fixer(layer, **_settings(layer))), layer).train(
                        layer.training
                    )
            except Exception as error:  # settings that the replacement does not have
                problem = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
        if id(layer) not in made:
            raise UnsupportedModelError(
                f"privacy.replace_unsupported_layers: {_named(name, layer)} of the model {type(module).__name__} has "
                f"no replacement ({problem}); choose another model"
            )
        repaired = _put(repaired, name, made[id(layer)])
    for name, layer in _refused(repaired, True):
        raise UnsupportedModelError(
            f"privacy.replace_unsupported_layers: the replacement of {_named(name, layer)} is refused too; choose "
            "another model"
        )
    return repaired


@contextmanager
def quiet() -> Iterator[None]:
    """Opacus's hooks meet inputs that need no gradient, which torch notes on every step and means nothing here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
        warnings.filterwarnings("ignore", message="Using a non-full backward hook")
        warnings.filterwarnings("ignore", category=FutureWarning, module="opacus")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="opacus")
        yield


def _refused(module: nn.Module, per_sample: bool) -> Iterator[tuple[str, nn.Module]]:
    """Name and layer of what Opacus's validators refuse, under every name it has."""
    from opacus.validators import ModuleValidator

    for name, layer in module.named_modules(remove_duplicate=False):
        validator = _of_type(ModuleValidator.VALIDATORS, layer)
        trained = per_sample and any(p.requires_grad for p in layer.parameters(recurse=False))
        if validator is not None and (trained or isinstance(layer, _NORMS)) and validator(layer):
            yield name, layer


def _of_type(table: Mapping[type[nn.Module], Callable[[Any], Any]], layer: nn.Module) -> Callable[[Any], Any] | None:
    """The entry of a layer's class, or of the nearest class that it is made from."""
    return next((table[cls] for cls in type(layer).__mro__ if cls in table), None)


def _as_frozen(made: nn.Module, layer: nn.Module) -> nn.Module:
    """``made``, trained as far as the ``layer`` that it replaces is: by name, else if any of it is."""
    before = dict(layer.named_parameters())
    some = any(parameter.requires_grad for parameter in before.values()) or not before
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(before[name].requires_grad if name in before else some)
    return made


def _settings(layer: nn.Module) -> dict[str, int]:
    """One group where a channel may be a single number: normalised by itself it would be 0, whatever it was."""
    return {"num_groups": 1} if isinstance(layer, nn.BatchNorm1d) else {}


def _forgetful(layer: nn.Module) -> nn.Module:
    """Opacus switches running statistics off and leaves the buffers, which torch then goes on to change."""
    if isinstance(layer, _NORMS):
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return layer


def _put(root: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """``root`` with ``layer`` in the place of ``name``; "" is the root itself."""
    if not name:
        return layer
    parent, _, key = name.rpartition(".")
    root.get_submodule(parent)._modules[key] = layer
    return root


def _named(name: str, layer: nn.Module) -> str:
    return f"layer {name!r} ({type(layer).__name__})"


def _why(layer: nn.Module) -> str:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.SyncBatchNorm):
        return "mixes the samples of a batch"
    if isinstance(layer, _NORMS):
        return "keeps running statistics of the samples without noise"
    return "gives no per-sample gradients"
