"""Advice of libraries that is not passed on: how to load pickles, which run whatever code they hold."""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    r"allow_pickle|weights_only|unsafe|pickle\.load|trust(?:ed)? (?:the|this) (?:file|source)|trusted source",
    re.IGNORECASE,
)
INSTEAD = "it holds pickled objects, which can run any code; save plain arrays or tensors instead"


def without_unsafe_advice(text: str) -> str:
    """``text``; every line of it that tells how to load pickles becomes what is the matter.

    >>> print(without_unsafe_advice("model.factory: failed\\nRe-running `torch.load` with weights_only=False will do"))
    model.factory: failed
    it holds pickled objects, which can run any code; save plain arrays or tensors instead
    """
    lines: list[str] = []
    for line in text.split("\n"):
        kept = line
        if found := _UNSAFE.search(line):
            before, mark, _ = line[: found.start()].rpartition(": ")  # who says it stays
            kept = f"{before}{mark}{INSTEAD}"
        if kept != INSTEAD or kept not in lines:
            lines.append(kept)
    return "\n".join(lines)
