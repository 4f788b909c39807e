"""A YAML document that remembers where every value stands, so that an error can name file and line.

What plain text means is in :mod:`.yaml_text`. Beyond that a key written twice is refused, and so is what
nothing later could work with: numbers that no computer counts with, control characters, data nested very deeply.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from autoflip_secure.errors import InputError
from autoflip_secure.files.first_bytes import LENGTH, instead
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.scenarios.config.key_paths import KeyPath, named
from autoflip_secure.scenarios.config.yaml_text import MERGE, Loader
from autoflip_secure.scenarios.config.yaml_values import checked_key, wrong_value
from autoflip_secure.terminal.near_names import nearby
from autoflip_secure.terminal.visible import visible

DEEPEST = 50  # keys in a key path, so that whatever walks through a scenario comes to an end
_SHORT = ("kind", "name", "factory")  # what a short form says (``attack: none``)
_MOST = 100_000  # values of a document, aliases written out
_MOST_BYTES = 2**24  # of a scenario file


@dataclass
class Document:
    """Plain data, and for each key path the line it stands on (or the ``--set`` that put it there)."""

    name: str
    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)
    known: dict[Hashable, tuple[dict[str, str], set[str]]] = field(
        default_factory=dict, compare=False, repr=False
    )  # places that were looked up for one point of a grid, and are the same for others; once nothing changes any more

    def where(self, path: KeyPath) -> str:
        """The place of ``path``, or of the nearest enclosing key: ``file.yaml:12`` or ``--set key=value``."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.name

    def written(self, path: KeyPath) -> bool:
        """Whether somebody wrote ``path``, in full or by a short form; else it is a default."""
        if path in self.places:
            return True
        if self.places and not any(path[:end] in self.places for end in range(1, len(path))):
            return False
        here: Any = self.data
        for part in path:
            if isinstance(here, dict):
                if part not in here:
                    return False
                here = here[part]
            elif isinstance(here, list):
                index = str(part)
                if not index.isdecimal() or int(index) >= len(here):
                    return False
                here = here[int(index)]
            else:
                return part in _SHORT
        return True

    def replace(self, path: KeyPath, place: str) -> None:
        """From now on, what lies at and below ``path`` comes from ``place``."""
        self.places = {key: mark for key, mark in self.places.items() if key[: len(path)] != path}
        self.places[path] = place

    @classmethod
    def parse(cls, text: str, name: str, what: str = "scenario") -> Self:
        """Read YAML text.

        Raises:
            InputError: not YAML, not a mapping, a key twice, a key that is not text, or a value that cannot be used as
                it is written; with file and line.
        """
        walk = _Walk(lambda line: f"{name}:{line}")
        node = _compose(text, lambda line: f"{name}{line}: not valid YAML", name)
        if node is None:
            least = "write at least `algorithm: autoflip`" if what == "scenario" else f"write the {what} into it"
            raise InputError(f"{name}: the file is empty; {least}")
        if not isinstance(node, yaml.MappingNode):
            raise InputError(
                f"{name}:{node.start_mark.line + 1}: a {what} is a mapping of keys to values (`key: value`)"
            )
        return cls(name, walk.data(node), walk.places)

    @classmethod
    def read(cls, path: Path, what: str = "scenario") -> Self:
        """Read a YAML file; ``what`` is in it, for messages.

        Raises:
            InputError: the file cannot be read, or :meth:`parse` refuses it.
        """
        name, way_out = visible(path), f"give the path of a {what} file (YAML)"
        try:
            content = read_regular(path, _MOST_BYTES)
            if (sentence := instead(content[:LENGTH], f"a {what}", way_out, "text", "empty")) is not None:
                raise InputError(f"{name}: {sentence}")
            text = content.decode("utf-8")
        except FileNotFoundError as error:
            raise InputError(f"{name}: no such file{nearby(path)}; {way_out}") from error
        except IsADirectoryError as error:
            if what == "scenario" and (inside := path / "scenario.yaml").is_file():
                way_out = f"give its scenario, {visible(inside)}"
            raise InputError(f"{name}: is a folder; {way_out}") from error
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror}); {way_out}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{name}: is not UTF-8 text (byte {error.start}); a {what} is a YAML text file") from error
        return cls.parse(text, name, what)


def parse_value(text: str, path: KeyPath = (), place: str = "--set") -> Any:
    """The value of ``--set key=value``, as YAML.

    Args:
        text: what stands behind the first ``=``.
        path: the key, for messages.
        place: the whole ``--set``, for messages.

    Raises:
        InputError: not YAML, a key twice, a key that is not text, or a value that cannot be used as it is written.

    >>> parse_value("[0.1, 1e-3]"), parse_value("mnist")
    ([0.1, 0.001], 'mnist')
    """
    node = _compose(text, lambda line: f"{place}: the value is not valid YAML", place)
    return None if node is None else _Walk(lambda line: place).data(node, path)


def _compose(text: str, said: Callable[[str], str], place: str) -> yaml.Node | None:
    """The tree of a document; ``said`` begins a message about a line (``:3``, or nothing)."""
    loader = None
    try:
        loader = Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        what = visible(error.problem or error.context)
        raise InputError(f"{said(f':{at.line + 1}' if at else '')}: {what}; fix it, or put it in quotes") from error
    except RecursionError as error:
        raise InputError(f"{place}: {_TOO_DEEP}") from error
    except Exception as error:  # a parser of text from outside
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{said('')}: {visible(what)}") from error
    finally:
        if loader is not None:
            loader.dispose()


_TOO_DEEP = "not valid here: it is nested too deeply, or contains itself; write it out flat"


class _Walk:
    """Goes through a tree before data is made of it: notes every line, and refuses what cannot be used."""

    def __init__(self, mark: Callable[[int], str]) -> None:
        self.places: dict[KeyPath, str] = {}
        self._mark = mark  # line -> place
        self._lines: dict[int, dict[str, int]] = {}  # of a mapping that was gone through: key -> line, merges included
        self._count = 0

    def data(self, node: yaml.Node, path: KeyPath = ()) -> Any:
        """What the tree below ``node`` says."""
        self._visit(node, path, ())
        constructor = Loader("")
        try:
            return _unshared(constructor.construct_document(node))
        except yaml.MarkedYAMLError as error:
            at = error.problem_mark or error.context_mark or node.start_mark
            raise InputError(f"{self._mark(at.line + 1)}: not valid YAML: {error.problem or error.context}") from error
        finally:
            constructor.dispose()

    def _visit(self, node: yaml.Node, path: KeyPath, above: tuple[yaml.Node, ...]) -> None:
        place = self._mark(node.start_mark.line + 1)
        if any(node is outer for outer in above):
            raise InputError(
                f"{place}: {named(path)}: an alias (*name) is inside its own anchor (&name); write the value out"
            )
        self._count += 1
        if self._count > _MOST:
            raise InputError(f"{place}: more than {_MOST} values; write fewer, or fewer aliases")
        if len(path) > DEEPEST:
            raise InputError(f"{place}: {named(path)}: {_TOO_DEEP}")
        said = wrong_value(node)
        if said is not None:
            raise InputError(f"{place}: {named(path) or 'the value'}{said}")
        above = (*above, node)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.places[(*path, index)] = self._mark(item.start_mark.line + 1)
                self._visit(item, (*path, index), above)
        if isinstance(node, yaml.MappingNode):
            self._pairs(node, path, above)

    def _pairs(self, node: yaml.MappingNode, path: KeyPath, above: tuple[yaml.Node, ...]) -> None:
        if _merged_pairs(node, {}) > _MOST:
            place = self._mark(node.start_mark.line + 1)
            raise InputError(f"{place}: merges (<<) of more than {_MOST} values; write fewer")
        seen: dict[str, int] = {}
        lines = self._lines[id(node)] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == MERGE:
                for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if id(one) not in self._lines:  # written here, not elsewhere with an anchor
                        self._visit(one, path, above)
                    for merged, inner in self._lines.get(id(one), {}).items():
                        lines.setdefault(merged, inner)
                continue
            name = checked_key(key, path, self._mark(line))
            if str(name) in seen:
                where = named((*path, name))
                raise InputError(
                    f"{self._mark(line)}: key '{where}' appears twice (first on line {seen[str(name)]}); keep one"
                )
            seen[str(name)] = line
            self.places[(*path, name)] = self._mark(line)
            self._visit(value, (*path, name), above)
        lines |= seen
        self.places |= {(*path, merged): self._mark(inner) for merged, inner in lines.items() if merged not in seen}


def _unshared(value: Any) -> Any:
    """A copy in which what came from one anchor stands by itself, so that a change of one is no change of the other."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _merged_pairs(node: yaml.Node, known: dict[int, int]) -> int:
    """How many pairs a mapping has when its merges are written out; they can double with every line."""
    if id(node) not in known:
        known[id(node)] = 0  # for a merge of itself
        total = 0
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            total += sum(_merged_pairs(one, known) for one in merged) if key.tag == MERGE else 1
        known[id(node)] = total
    return known[id(node)]
