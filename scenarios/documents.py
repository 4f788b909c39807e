"""A YAML document that remembers where every value stands, so that an error can name file and line.

``yaml.safe_load`` semantics, with two differences that save people from silent surprises: a key written twice is
refused, and ``1e-3`` is a number (YAML 1.1 wants ``1.0e-3`` and would make it text).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from autoflip_secure.errors import InputError

KeyPath = tuple[str | int, ...]
_MERGE = "tag:yaml.org,2002:merge"
_NUMBERED = ("pairs",)  # mappings whose keys may be whole numbers
_LARGEST = 2**63 - 1
_MOST = 100_000  # values of a document, aliases written out


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-3`` as a float."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def dotted(path: Sequence[str | int]) -> str:
    """``("sweep", "product", 0)`` as people write it.

    >>> dotted(("attack", "clients", 0))
    'attack.clients.0'
    """
    return ".".join(str(part) for part in path)


@dataclass
class Document:
    """Plain data, and for each key path the line it stands on (or the ``--set`` that put it there)."""

    name: str
    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """The place of ``path``, or of the nearest enclosing key: ``file.yaml:12`` or ``--set key=value``."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.name

    def replace(self, path: KeyPath, place: str) -> None:
        """From now on, what lies at and below ``path`` comes from ``place``."""
        self.places = {key: mark for key, mark in self.places.items() if key[: len(path)] != path}
        self.places[path] = place

    @classmethod
    def parse(cls, text: str, name: str) -> Self:
        """Read YAML text.

        Raises:
            InputError: not YAML, not a mapping, a key twice, or a key that is not text; with file and line.
        """

        def mark(line: int) -> str:
            return f"{name}:{line}"

        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            if node is None:
                raise InputError(f"{name}: the file is empty; write at least `algorithm: autoflip`")
            if not isinstance(node, yaml.MappingNode):
                raise InputError(
                    f"{name}:{node.start_mark.line + 1}: a scenario is a mapping of keys to values (`key: value`)"
                )
            places: dict[KeyPath, str] = {}
            _walk(node, (), mark, places)
            data = loader.construct_document(node)
            check_numbers(data, lambda path: places.get(path, name))
        except yaml.MarkedYAMLError as error:
            at = error.problem_mark or error.context_mark
            line = f":{at.line + 1}" if at else ""
            raise InputError(f"{name}{line}: not valid YAML: {error.problem or error.context}") from error
        except RecursionError as error:
            raise InputError(f"{name}: {_TOO_DEEP}") from error
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"{name}: not valid YAML: {error}") from error
        return cls(name, data, places)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a YAML file.

        Raises:
            InputError: the file cannot be read, or :meth:`parse` refuses it.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); give the path of a scenario file") from error
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: is not UTF-8 text (byte {error.start}); a scenario is a YAML text file"
            ) from error
        return cls.parse(text, str(path))


def parse_value(text: str, path: KeyPath = (), place: str = "--set") -> Any:
    """The value of ``--set key=value``, as YAML.

    Args:
        text: what stands behind the first ``=``.
        path: the key, for messages.
        place: the whole ``--set``, for messages.

    Raises:
        InputError: not YAML, a key twice, or a key that is not text.

    >>> parse_value("[0.1, 1e-3]"), parse_value("mnist")
    ([0.1, 0.001], 'mnist')
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _walk(node, path, lambda line: place, {})
        value = loader.construct_document(node)
        check_numbers(value, lambda path: place, path)
        return value
    except yaml.MarkedYAMLError as error:
        raise InputError(
            f"{place}: the value is not valid YAML: {error.problem or error.context}; mend it, or put it in quotes"
        ) from error
    except RecursionError as error:
        raise InputError(f"{place}: {_TOO_DEEP}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{place}: the value is not valid YAML: {str(error).splitlines()[0]}") from error


_TOO_DEEP = "not valid here: it is nested too deeply, or contains itself; write it out flat"


def check_numbers(value: Any, where: Callable[[KeyPath], str], path: KeyPath = ()) -> None:
    """Refuse whole numbers beyond 64 bits, which nothing can count with.

    Raises:
        InputError: with the number's place and key.
    """
    if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        shown = f"{value:.3g}" if abs(value) < 1e300 else "a number of more than 300 digits"
        raise InputError(
            f"{where(path)}: {dotted(path)} = {shown}: whole numbers go up to 2^63 - 1; give a smaller one"
        )
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        check_numbers(inner, where, (*path, key))


def _walk(
    node: yaml.Node,
    path: KeyPath,
    mark: Callable[[int], str],
    places: dict[KeyPath, str],
    above: tuple[yaml.Node, ...] = (),
) -> None:
    """Note the line of every key and item below ``node``; refuse keys that stand twice and values inside themselves."""
    if any(node is outer for outer in above):
        raise InputError(
            f"{mark(node.start_mark.line + 1)}: {dotted(path)}: an alias (*name) stands inside its own anchor (&name); "
            f"write the value out"
        )
    if len(places) > _MOST:
        raise InputError(f"{mark(node.start_mark.line + 1)}: more than {_MOST} values; write fewer, or fewer aliases")
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[(*path, index)] = mark(item.start_mark.line + 1)
            _walk(item, (*path, index), mark, places, above)
    if isinstance(node, yaml.MappingNode):
        if _pairs(node, {}) > _MOST:
            raise InputError(f"{mark(node.start_mark.line + 1)}: merges (<<) of more than {_MOST} values; write fewer")
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                continue
            name = _key(key, path, mark(line))
            if str(name) in seen:
                where = dotted((*path, name))
                raise InputError(
                    f"{mark(line)}: key '{where}' stands twice (first on line {seen[str(name)]}); keep one"
                )
            seen[str(name)] = line
            places[(*path, name)] = mark(line)
            _walk(value, (*path, name), mark, places, above)


def _pairs(node: yaml.Node, known: dict[int, int]) -> int:
    """How many pairs a mapping has when its merges are written out; they can double with every line."""
    if id(node) not in known:
        known[id(node)] = 0  # for a merge of itself
        total = 0
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            total += sum(_pairs(one, known) for one in merged) if key.tag == _MERGE else 1
        known[id(node)] = total
    return known[id(node)]


def _key(key: yaml.Node, path: KeyPath, place: str) -> str | int:
    """A key is text; below ``pairs`` it may be a whole number."""
    if isinstance(key, yaml.ScalarNode):
        if key.tag == "tag:yaml.org,2002:str":
            return str(key.value)
        plain = re.fullmatch(r"0|[1-9]\d{0,17}", key.value)
        if key.tag == "tag:yaml.org,2002:int" and plain and str(path[-1] if path else "").split(".")[-1] in _NUMBERED:
            return int(key.value)
    raise InputError(f"{place}: keys must be text; put the key in quotes, or mend the line")
