"""What installed distributions offer under the entry-point group ``autoflip_secure.plugins``; nothing is imported.

.. code-block:: toml

    [project.entry-points."autoflip_secure.plugins"]
    negated = "my_package.attacks:SignFlip"        # the kind that scenarios write, and the class
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from functools import lru_cache

from autoflip_secure.terminal.visible import short

GROUP = "autoflip_secure.plugins"
TARGET = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
"""``package.module:Class``, as a regular expression."""
_KIND = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Offer:
    """One entry point."""

    name: str
    target: str  # module:Class
    distribution: str  # name and version
    package: str  # its name alone, as pip takes it


@dataclass(frozen=True)
class Offers:
    """Those of every installed distribution, and what cannot be one."""

    good: tuple[Offer, ...]
    damaged: tuple[tuple[str, str], ...]  # what, and why with the way out

    def called(self, name: str) -> list[Offer]:
        """Those of one name; several distributions may have chosen the same."""
        return [offer for offer in self.good if offer.name == name]


def offers() -> Offers:
    """What is on the import path now."""
    return _offers(tuple(sys.path))


@lru_cache(maxsize=8)
def _offers(path: tuple[str, ...]) -> Offers:
    good, damaged, seen = list[Offer](), list[tuple[str, str]](), set[str]()
    for one in importlib.metadata.distributions(path=list(path)):
        try:
            text = one.read_text("entry_points.txt") or ""
        except (OSError, ValueError):  # of another encoding, or not ours to read: nobody knows whether it offers any
            continue
        if GROUP not in text:
            continue
        package = short(one.metadata["Name"] or "a distribution without a name")
        if package.lower() in seen:  # found first on the path is what is imported
            continue
        seen.add(package.lower())
        distribution = f"{package} {short(one.metadata['Version'] or '')}".strip()
        try:
            found = [(entry.name, entry.value) for entry in one.entry_points if entry.group == GROUP]
        except Exception as error:  # a file that anybody may have written, in a format of few rules
            why = f"its entry_points.txt cannot be read ({type(error).__name__}); {_way_out(package)}"
            damaged.append((distribution, why))
            continue
        for name, value in found:
            target = value.partition("[")[0].strip()
            if not re.fullmatch(TARGET, target):
                wanted = f"entry point = {short(value)!r}: should be package.module:Class"
                damaged.append((f"{short(name)} of {distribution}", f"{wanted}; {_way_out(package)}"))
            elif not _KIND.fullmatch(name):
                wanted = "a kind has letters, digits, - and _, and begins with a letter"
                damaged.append((f"{short(name)} of {distribution}", f"{wanted}; {_way_out(package)}"))
            else:
                good.append(Offer(name, target, distribution, package))
    good.sort(key=lambda offer: (offer.name, offer.package.lower()))  # folders are listed in any order
    return Offers(tuple(good), tuple(sorted(damaged)))


def _way_out(package: str) -> str:
    return f"mend or update it, or uninstall it (pip uninstall {package})"
