"""The only place that imports CrypTen, and why it cannot simply be imported.

CrypTen 0.4.1 loads its ONNX converter on import, and that one asks for ``torch.onnx._internal.registration``, which is
gone since torch 2.13. Nothing here needs ONNX, so a stand-in takes the converter's place while CrypTen is imported, and
is taken away again: whoever imports the converter afterwards meets the real one.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from autoflip_secure.errors import InputError

_CONVERTER = "crypten.nn.onnx_converter"
INSTALL = "SKLEARN_ALLOW_DEPRECATED_SKLEARN_PACKAGE_INSTALL=True pip install 'crypten>=0.4.1' 'cryptography>=42'"
"""CrypTen asks for the retired name of scikit-learn, whose installer refuses without that variable."""


_NEEDED = {"crypten": "CrypTen", "cryptography": "cryptography"}


def require(*modules: str) -> None:
    """Say how to install CrypTen, and what ciphers and certificates are made with, when they are not there.

    Args:
        modules: those that are needed; none: all of them. They are not imported.

    Raises:
        InputError: one of them is not installed.
    """
    for module, name in _NEEDED.items():
        if modules and module not in modules:
            continue
        if sys.modules.get(module) is None and (module in sys.modules or find_spec(module) is None):
            raise InputError(f"secure_sum: {name} is not installed; install it with: {INSTALL}")


def crypten() -> Any:
    """The module ``crypten``.

    Raises:
        InputError: it is not installed, or cannot be imported.
    """
    require()
    if "crypten" in sys.modules:
        return sys.modules["crypten"]
    stand_in = ModuleType(_CONVERTER)
    vars(stand_in).update(from_onnx=None, from_pytorch=None, from_tensorflow=None, TF_AND_TF2ONNX=False)
    sys.modules[_CONVERTER] = stand_in
    try:
        return importlib.import_module("crypten")
    except ImportError as error:
        for name in [name for name in sys.modules if name.partition(".")[0] == "crypten"]:
            del sys.modules[name]  # half of it would look like all of it
        raise InputError(f"secure_sum: CrypTen cannot be imported ({error}); reinstall it: {INSTALL}") from error
    finally:
        sys.modules.pop(_CONVERTER, None)
