"""A long text in two parts: the sentence that stands in the open, and what is folded away."""

from __future__ import annotations

import re

_END = re.compile(r"(?<=[.?!])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bFig\.)(?<!\bvs\.) +(?=[A-Z“∞±σ])")


def first_sentence(text: str) -> str:
    """The first sentence.

    >>> first_sentence("Mean of 5 seeds (95 % interval). Bars: Fig. 9. More."), first_sentence("Nothing")
    ('Mean of 5 seeds (95 % interval).', 'Nothing')
    """
    return _END.split(text.strip(), maxsplit=1)[0]


def later_sentences(text: str) -> str:
    """All but the first sentence; empty where there is one only.

    >>> later_sentences("Mean of 5 seeds. Bars: Fig. 9. More."), later_sentences("Nothing")
    ('Bars: Fig. 9. More.', '')
    """
    return _END.split(text.strip(), maxsplit=1)[1] if _END.search(text.strip()) else ""
