"""Changes of a scenario before it is expanded: ``--set key=value``, and what the small form says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import DEEPEST, Document, parse_value
from autoflip_secure.scenarios.config.families import expand
from autoflip_secure.scenarios.config.key_paths import KeyPath, named
from autoflip_secure.terminal.near_names import suggest
from autoflip_secure.terminal.visible import short


def put(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set ``path`` in nested mappings; short forms on the way are expanded, missing mappings made."""
    here = data
    for depth, part in enumerate(path[:-1]):
        inner = expand(str(part), here.get(str(part), {}))
        if not isinstance(inner, dict):
            at = f"{named(path[: depth + 1])} = {short(repr(inner), 80)}"
            raise InputError(f"'{named(path)}' cannot be set: {at} has no keys below it")
        here[str(part)] = inner
        here = inner
    here[str(path[-1])] = value


def override(document: Document, text: str, before: Sequence[str]) -> None:
    """Apply ``--set key=value``; what the sweep would overwrite again, or what drops an earlier one, is refused."""
    key, equals, raw = text.partition("=")
    key = key.strip()
    place = f"--set {short(text)}"
    if not equals or not key or "" in key.split(".") or not key.isprintable():
        raise InputError(f"{place}: write it as key=value, for example --set data=mnist or --set attack.sigma=0.3")
    path = tuple(key.split("."))
    if len(path) > DEEPEST:
        raise InputError(f"{place}: unknown key of {len(path)} parts; no setting is nested that deep")
    value = parse_value(raw, path, place)
    for earlier in before:
        if earlier.partition("=")[0].strip().startswith(f"{key}."):
            raise InputError(
                f"{place}: would drop --set {short(earlier)}, which comes before it; put --set {short(text)} first"
            )
    change(document, key, value, place)


def change(document: Document, key: str, value: Any, place: str) -> None:
    """Set ``key``, a config path or an axis (``sweep.PATH``), to ``value``, which comes from ``place``.

    Raises:
        InputError: there is no such axis, or the sweep would overwrite the key.
    """
    path = tuple(key.split("."))
    sweep = document.data.get("sweep")
    grids = [(("sweep", i), g) for i, g in enumerate(sweep)] if isinstance(sweep, list) else [(("sweep",), sweep)]
    axes = [
        (root, how, axis, grid[how])
        for root, grid in grids
        if isinstance(grid, dict)
        for how in ("product", "zip")
        if isinstance(grid.get(how), dict)
        for axis in grid[how]
    ]
    if key.startswith("sweep."):
        wanted = key.removeprefix("sweep.")
        if not sweep:
            raise InputError(
                f"{place}: there is no sweep; give one with --set 'sweep={{product: {{{short(wanted)}: […]}}}}'"
            )
        found = [(root, how, values) for root, how, axis, values in axes if axis == wanted]
        if not found:
            raise InputError(
                f"{place}: the sweep has no axis '{short(wanted)}'; {suggest(wanted, {axis for _, _, axis, _ in axes})}"
            )
        for root, how, values in found:
            values[wanted] = value
            document.replace((*root, how, wanted), place)
        return
    for _, _, axis, _ in axes:
        if f"{key}.".startswith(f"{axis}."):
            raise InputError(
                f"{place}: the sweep's axis '{axis}' would overwrite it; narrow the axis with "
                f"--set 'sweep.{axis}=[…]', or drop the sweep with --set sweep=null"
            )
    try:
        put(document.data, path, value)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    for end in range(1, len(path)):  # mappings that it made on its way
        document.places.setdefault(path[:end], place)
    document.replace(path, place)
