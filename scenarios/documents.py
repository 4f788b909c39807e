"""A YAML document that remembers where every value stands, so that an error can name file and line.

``yaml.safe_load`` semantics, with two differences that save people from silent surprises: a key written twice is
refused, and ``1e-3`` is a number (YAML 1.1 wants ``1.0e-3`` and would make it text).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from autoflip_secure.errors import InputError

KeyPath = tuple[str | int, ...]
_MERGE = "tag:yaml.org,2002:merge"


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
            _walk(node, (), name, places)
            data = loader.construct_document(node)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise InputError(f"{name}{line}: not valid YAML: {error.problem or error.context}") from error
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


def parse_value(text: str) -> Any:
    """The value of ``--set key=value``, as YAML.

    >>> parse_value("[0.1, 1e-3]"), parse_value("mnist")
    ([0.1, 0.001], 'mnist')
    """
    return yaml.load(text, _Loader)


def _walk(node: yaml.Node, path: KeyPath, name: str, places: dict[KeyPath, str]) -> None:
    """Note the line of every key and item below ``node``; refuse keys that stand twice."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[(*path, index)] = f"{name}:{item.start_mark.line + 1}"
            _walk(item, (*path, index), name, places)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise InputError(f"{name}:{line}: keys must be text; put the key in quotes, or mend the line")
            if key.value in seen:
                where = dotted((*path, key.value))
                raise InputError(
                    f"{name}:{line}: key '{where}' stands twice (first on line {seen[key.value]}); keep one"
                )
            seen[key.value] = line
            places[(*path, key.value)] = f"{name}:{line}"
            _walk(value, (*path, key.value), name, places)
