"""The site shows pages that are also read on GitHub: with the same anchors, and links to the rest of the repository.

A hook of mkdocs (``mkdocs.yml``); it imports nothing of the project.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from typing import Any

REPOSITORY = "https://github.com/autoflip-secure/autoflip-secure"
_LINK = re.compile(r"(?<=\]\()(?P<path>\.\./[^)#\s]*)(?P<anchor>#[^)\s]*)?(?=\))")


def slug(text: str, separator: str) -> str:
    """The anchor that GitHub gives a heading: small letters, digits, - and _; blanks become ``separator``.

    >>> slug("I want to add …", "-")
    'i-want-to-add-'
    """
    kept = "".join(c for c in text.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return kept.strip("\n").replace(" ", separator)


def outside(markdown: str, page: str) -> str:
    """``markdown`` of ``page`` (its path within docs), links out of docs leading to the repository.

    >>> outside("[r](../README.md#more) [x](../examples/text) [g](gate.md)", "ci.md")[:72]
    '[r](https://github.com/autoflip-secure/autoflip-secure/blob/main/README.'
    """

    def leads(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link["path"]))
        if path.startswith("docs/"):
            return link[0]
        kind = "blob" if "." in posixpath.basename(path) else "tree"
        return f"{REPOSITORY}/{kind}/main/{path}{link['anchor'] or ''}"

    return _LINK.sub(leads, markdown)


def on_config(config: Any) -> Any:
    """Anchors as on GitHub."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as on GitHub."""
    return outside(markdown, page.file.src_uri)
