"""What a sweep would prove, before it runs: the epsilons of docs/privacy.md. Run as a script; presets or files choose.

python benchmarks/epsilons.py privacy_cost client_level_dp

Cells without attack only. A row per setting and what is proven; of all seeds the largest epsilon and delta.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from autoflip_secure.records.privacy import Guarantee
from autoflip_secure.records.proven import Bound, bound, weakest, who
from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.reports.study.labels import is_clean
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.scenarios.config.loading import CellSpec, load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.scenarios.store.fingerprints import input_digests
from autoflip_secure.scenarios.store.ledgers import private, under_conditions

HEAD = ("setting", "against", "epsilon", "delta", "neighbours")


def rows(source: str) -> list[tuple[str, ...]]:
    """The table of one scenario."""
    work = plan(load(source))
    blocks = under_conditions(work.blocks, input_digests(cell.settings for cell in work.cells))
    builder = CellBuilder()
    found: dict[str, dict[str, list[Guarantee]]] = {}
    for block in blocks:
        for spec in block.cells:
            if private(spec) and is_clean(spec.config.get("attack")):
                record = ledger(builder.cell(spec, block.cells[0], torch.device("cpu")))
                assert record is not None
                for guarantee in record.guarantees:
                    found.setdefault(setting(spec), {}).setdefault(guarantee.observer, []).append(guarantee)
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, by_observer in found.items():
        for observer, guarantees in by_observer.items():
            row = (name, *terms([bound(guarantee) for guarantee in guarantees]))
            alike.setdefault(row, []).append(who(observer))
    return [(name, ", ".join(observers), *rest) for (name, *rest), observers in alike.items()]


def setting(spec: CellSpec) -> str:
    """What tells the cell from others, but for its seed and its attack."""

    def short(value: Any) -> str:
        return ", ".join(f"{k} {short(v)}" for k, v in value.items()) if isinstance(value, dict) else str(value)

    return "; ".join(f"{k}: {short(v)}" for k, v in spec.axes.items() if not k.startswith("attack"))


def terms(found: list[Bound | None]) -> tuple[str, str, str]:
    """Epsilon, delta and neighbours that hold on every seed."""
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return "no guarantee", "", ""
    each = [weakest([b for b in known if b.relation == relation]) for relation in sorted({b.relation for b in known})]
    texts = [(upper_text(b.epsilon), upper_delta(b.delta), b.relation) for b in each]
    epsilons, deltas, relations = (" or ".join(dict.fromkeys(column)) for column in zip(*texts, strict=True))
    return epsilons, deltas, relations


@one_thread()
def main(sources: list[str]) -> None:
    """Print the tables as Markdown."""
    for source in sources:
        print(f"\n{source}\n\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
        for row in rows(source):
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["privacy_cost", "client_level_dp"])
