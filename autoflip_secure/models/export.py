"""A trained module as the content of a file: safetensors, torch (a state dict) or ONNX, tried before it is returned.

The content is read again and gives the outputs of the module on ``rows``: bit for bit from weights; within
``TOLERANCE`` from ONNX, computed by onnxruntime where that is installed. ``metadata`` lies in the file under
``autoflip_secure``: as JSON among the metadata of safetensors and ONNX, and as a dictionary in
``state_dict._metadata`` of torch.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import io
import json
import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.terminal.counting import listed

Format = Literal["safetensors", "torch", "onnx"]
SUFFIXES: Final[dict[Format, str]] = {"safetensors": ".safetensors", "torch": ".pt", "onnx": ".onnx"}
TOLERANCE = 1e-4
"""Largest difference from torch's outputs, relative to the largest of them (or to 1)."""
_KEY = "autoflip_secure"
_EXTRA = "install the extra: pip install 'autoflip-secure[onnx]'"


def serialised(
    module: nn.Module, to: Format, rows: Shaped[Tensor, "rows ..."], metadata: Mapping[str, Any]
) -> tuple[bytes, str]:
    """The content of a file, and in a sentence how it was checked.

    Args:
        module: on the CPU; left as it is. Exported in evaluation mode.
        to: the format. ONNX has the input ``input`` (batch, *features), the output ``scores`` (batch, classes), and
            takes any batch size.
        rows: two or more inputs to try it on.
        metadata: numbers, texts, lists and dictionaries.

    Raises:
        InputError: a library that the format needs is not installed.
        UnsupportedModelError: the module cannot be written in this format; says why.
    """
    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        wanted = module(rows)
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
    if to == "onnx":
        content = _onnx(module, rows, text)
        return content, _check_onnx(content, rows, wanted)
    state = _state(module, to)
    content = _safetensors(state, text) if to == "safetensors" else _torch(state, metadata)
    loaded = _loaded(content, to)
    module.load_state_dict(loaded)
    with torch.no_grad():
        given = module(rows)
    if not torch.equal(given.nan_to_num(), wanted.nan_to_num()):
        raise UnsupportedModelError(
            f"{type(module).__name__}: its outputs after loading its own state dict differ; does it keep tensors that "
            "are neither parameters nor buffers? Register them"
        )
    return content, f"loaded again, it gives the same outputs bit for bit on {len(rows)} test samples"


def _state(module: nn.Module, to: Format) -> OrderedDict[str, Tensor]:
    """The state dict, each tensor in memory of its own, because safetensors stores no shared ones (tied weights)."""
    state = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise UnsupportedModelError(
                f"{type(module).__name__}: its state dict holds {name}, a {type(value).__name__}; {to} files hold "
                "only tensors: leave out get_extra_state"
            )
    plain = OrderedDict((name, value.detach().cpu().clone().contiguous()) for name, value in state.items())
    vars(plain)["_metadata"] = OrderedDict(getattr(state, "_metadata", {}))  # torch's own: versions of layers
    return plain


def _safetensors(state: Mapping[str, Tensor], text: str) -> bytes:
    from safetensors.torch import save

    content: bytes = save(dict(state), {_KEY: text})
    return content


def _torch(state: OrderedDict[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    vars(state)["_metadata"][_KEY] = dict(metadata)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _loaded(content: bytes, to: Format) -> Mapping[str, Tensor]:
    if to == "torch":
        found: Mapping[str, Tensor] = torch.load(io.BytesIO(content), weights_only=True)
        return found
    from safetensors.torch import load

    return dict(load(content))


def _onnx(module: nn.Module, rows: Tensor, text: str) -> bytes:
    """With the first dimension, the batch, left open."""
    for library in ("onnx", "onnxscript"):
        if importlib.util.find_spec(library) is None:
            raise InputError(f"--to onnx: needs {library}, which is not installed; {_EXTRA}")
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        raise InputError(f"--to onnx: needs torch 2.6 or newer, and this is {torch.__version__}; install a newer one")
    import onnx

    with _quiet():
        try:
            program = torch.onnx.export(
                module, (rows[:3],), dynamo=True, verbose=False, input_names=["input"], output_names=["scores"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
            model = program.model_proto
        except Exception as error:  # it traces the user's own forward: it can fail in any way
            raise UnsupportedModelError(
                f"{type(module).__name__}: torch cannot export it to ONNX ({_cause(error)}); export it --to torch or "
                "safetensors, or write its forward pass without branches on data and on the batch size"
            ) from error
    onnx.helper.set_model_props(model, {_KEY: text})
    try:
        content: bytes = model.SerializeToString()
    except ValueError as error:  # protobuf ends at 2 GiB
        raise UnsupportedModelError(
            f"{type(module).__name__}: is too large for one ONNX file ({error}); export it --to safetensors"
        ) from error
    return content


def _check_onnx(content: bytes, rows: Tensor, wanted: Float[Tensor, "rows classes"]) -> str:
    """Batches of 1, 2 and all rows against torch's outputs."""
    if importlib.util.find_spec("onnxruntime") is None:
        return f"its outputs were not compared, because onnxruntime is not installed; {_EXTRA}"
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (name,) = [entry.name for entry in session.get_inputs()]
    largest, scale = 0.0, max(1.0, float(wanted.nan_to_num().abs().max()))
    sizes = sorted({1, 2, len(rows)})
    for size in sizes:
        given = torch.from_numpy(session.run(None, {name: rows[:size].numpy()})[0])
        if given.shape != wanted[:size].shape or not torch.equal(given.isnan(), wanted[:size].isnan()):
            raise UnsupportedModelError("ONNX: onnxruntime gives outputs of another shape; export it --to torch")
        largest = max(largest, float((given - wanted[:size]).nan_to_num().abs().max()))
    if largest > TOLERANCE * scale:
        raise UnsupportedModelError(
            f"ONNX: onnxruntime's outputs differ from torch's by {largest:.3g} (largest output {scale:.3g}), more than "
            "rounding explains: does the forward pass branch on the data? Export it --to torch"
        )
    batches = listed([*map(str, sizes)])
    return f"onnxruntime gives the outputs of torch within {largest:.1g} on batches of {batches} test samples"


def _cause(error: BaseException) -> str:
    """The first line of what went wrong in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line.strip()[:200]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs and prints graphs and steps; what fails is said in one sentence instead."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
