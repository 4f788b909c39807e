"""What secure sums cost: bytes that leave a client, and time, beside the same runs in the open."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.drawing import in_table
from autoflip_secure.reports.figures.style import INK, Picture, finish, panels
from autoflip_secure.reports.study.labels import in_lines
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.wording.secure import MIB, secure_pairs

_SHOWN = 10
_COLOURS = {"in the open": "#7d848d", "through the parties": "#029e73"}


def costs(study: Study) -> Picture | None:
    """Two panels: bytes from clients, seconds of a run."""
    found = secure_pairs(study)
    if not found:
        return None
    rows = []
    table: list[list[Any]] = []
    for entry in found:
        secure = [record for _, record in entry.pairs]
        plain = [record for record, _ in entry.both]
        name = f"{entry.algorithm} · {entry.facet}"
        rows.append((name, (_uplink(plain), _uplink(secure)), (None, _at_parties(secure))))
        guidance, masks = entry.equal("guidance"), entry.equal("mask")
        apart = max((abs(study.accuracy(a) - study.accuracy(b)) for a, b in entry.both), default=None)
        line: list[Any] = [name, secure[0].secure_sum.parties if secure[0].secure_sum else None, len(entry.both)]
        line += [_accuracy(study, plain), _accuracy(study, secure), None if apart is None else 100 * apart]
        line += [f"{guidance[0]} of {guidance[1]}", f"{masks[0]} of {masks[1]}"]
        line += [_at_parties(secure), _uplink(plain), _uplink(secure)]
        line += [_bytes(secure, "server_bytes"), _bytes(secure, "revealed_bytes"), _bytes(secure, "party_bytes")]
        line.append(max(p.numbers_per_client for r in secure if r.secure_sum for p in r.secure_sum.phases))
        table.append(line)
    shown = rows[:_SHOWN]
    figure, axes = panels(1, 2, height=0.6 * len(shown) + 0.9, share_x=False, share_y=True)
    for ax, part, label in zip(
        axes.flat, (1, 2), ("MiB from clients, whole run", "seconds spent at the parties, whole run"), strict=True
    ):
        _bars(ax, [row[part] for row in shown], label)  # type: ignore[misc]
    axes[0, 0].set_yticks(range(len(shown)), [in_lines(row[0], 46) for row in shown])
    axes[0, 0].set_ylim(len(shown) - 0.45, -0.55)
    handles = [Line2D([], [], color=c, lw=6, label=name, solid_capstyle="butt") for name, c in _COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    columns = ["setting", "parties", "pairs", "accuracy open (%)", "accuracy secure (%)", "largest difference (points)"]
    columns += ["guidance equal", "masks equal", "seconds at the parties"]
    columns += ["MiB from clients, open", "MiB from clients, secure", "MiB server to parties", "MiB parties to server"]
    columns += ["MiB among parties", "numbers learned per client, at most"]
    caption = (
        "Means over seeds and attacks of the same runs in the open and through parties. A client sends its row to "
        "one party, 64 bits a number instead of 32, and keys of 32 bytes to the others; where updates are scored, "
        "square pairs too. Seconds are those that the parties add, where they and the clients share one machine; "
        "starting them, once per sweep, is not included."
    )
    alt = f"Bars for {len(shown)} settings: bytes from clients and seconds, in the open and through parties."
    notes = in_table(len(rows), _SHOWN)
    return finish(figure, "secure-costs", "Cost of secure sums", caption, alt, Table(columns, table), notes)


def _bars(ax: Axes, values: list[tuple[float | None, float | None]], label: str) -> None:
    most = max((v for pair in values for v in pair if v is not None), default=1.0)
    for place, pair in enumerate(values):
        for shift, value, colour in zip((-0.19, 0.19), pair, _COLOURS.values(), strict=True):
            if value is not None:
                ax.barh(place + shift, value, height=0.34, color=colour, linewidth=0)
                ax.text(value + 0.01 * most, place + shift, f"{value:.3g}", va="center", fontsize=8, color=INK)
    ax.set_xlim(0, 1.15 * most)
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(label)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _uplink(records: list[RunRecord]) -> float | None:
    return _mean([record.costs.bytes.uplink_values / MIB for record in records])


def _at_parties(records: list[RunRecord]) -> float | None:
    return _mean([record.timing.get("secure_seconds", 0.0) for record in records])


def _accuracy(study: Study, records: list[RunRecord]) -> float | None:
    return _mean([100 * study.accuracy(record) for record in records])


def _bytes(records: list[RunRecord], name: str) -> float | None:
    return _mean([sum(getattr(p, name) for p in r.secure_sum.phases) / MIB for r in records if r.secure_sum])
