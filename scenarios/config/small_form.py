"""The small form of a scenario: the same question in minutes, as the scenario itself says.

.. code-block:: yaml

    rounds: 200
    data: cifar10
    small:                          # config path -> value; `sweep NAME --small` applies them before --set
      rounds: 10
      data.train_samples: 2000
      sweep.algorithm: [fedavg, autoflip]

What comes out is a scenario of its own, called ``NAME-small``, without ``small`` and with ``form: small``.
"""

from __future__ import annotations

from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.scenarios.config.changing import change
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.sources import LONGEST_NAME, presets
from autoflip_secure.terminal.counting import listed
from autoflip_secure.terminal.visible import short

SUFFIX = "-small"
KEPT = ("name", "question", "compare", "small", "form")  # the small form is of the same question


def make_small(document: Document) -> None:
    """Apply what ``small`` says.

    Raises:
        InputError: it says nothing, is no mapping, or names something that it may not change; with its place.
    """
    said = document.data.pop("small", None)
    if said is None:
        raise InputError(
            f"{document.name}: has no small form; give it `small:` with config paths and values, or make it smaller "
            f"with --set; presets that have one: {listed(with_small_form())}"
        )
    for key, value in checked(document, said).items():
        change(document, key, value, document.where(("small", key)))
    document.data["name"] = f"{document.data['name'][: LONGEST_NAME - len(SUFFIX)]}{SUFFIX}"
    document.data["form"] = "small"


def checked(document: Document, said: Any) -> dict[str, Any]:
    """``said`` if it is a mapping of config paths that the small form may change.

    Raises:
        InputError: it is not.
    """
    place = document.where(("small",))
    if not isinstance(said, dict) or not said:
        raise InputError(f"{place}: small: is {short(repr(said))}; write config paths and their values below it")
    for key in said:
        if not isinstance(key, str) or "" in key.split("."):
            raise InputError(f"{document.where(('small', key))}: small: {short(repr(key))} is no config path")
        if key.split(".")[0] in KEPT:
            raise InputError(
                f"{document.where(('small', key))}: small: '{short(key)}' stays as it is in the small form; remove it"
            )
    return said


def with_small_form() -> list[str]:
    """Presets that say what their small form is."""
    return [name for name, path in presets().items() if b"\nsmall:" in read_regular(path)]
