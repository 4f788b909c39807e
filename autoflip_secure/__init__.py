"""AutoFLIP and what evaluates it: agreement-scored federated pruning under malicious clients.

.. code-block:: python

    import autoflip_secure as af

    results = af.run("noise_magnitude", rounds=20)   # a preset, a file or a dictionary
    results.frame()                                  # a pandas DataFrame, one row a cell
    results.report("noise.html")

Importing this costs nothing: torch and the rest are imported by the first call.
"""

from typing import TYPE_CHECKING

from autoflip_secure.version import __version__

if TYPE_CHECKING:
    from autoflip_secure.api import load as load
    from autoflip_secure.api import run as run
    from autoflip_secure.errors import AutoflipError as AutoflipError
    from autoflip_secure.errors import InputError as InputError
    from autoflip_secure.errors import StoreError as StoreError
    from autoflip_secure.run_results import Results as Results

_PLACES = {
    "run": "api", "load": "api", "Results": "run_results",
    "AutoflipError": "errors", "InputError": "errors", "StoreError": "errors",
}  # fmt: skip
__all__ = ["AutoflipError", "InputError", "Results", "StoreError", "__version__", "load", "run"]

if not TYPE_CHECKING:  # PEP 562; a type checker knows the names from above

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
