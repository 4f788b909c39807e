"""``audit``: attack the privacy of a scenario."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from autoflip_secure.commands.session import (
    Json,
    Out,
    Overrides,
    Scenario,
    exit_codes,
    prepare,
    results_folder,
    tell,
    this_command,
)
from autoflip_secure.terminal.visible import visible

if TYPE_CHECKING:
    from autoflip_secure.records.audit import Verdict


def audit(
    scenario: Scenario,
    out: Out = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Attack a scenario's privacy: what was released, what is proven, what attackers achieved, and at most could.

    Exit code 0: nothing was shown above what is proven, and every setting with a guarantee had an attack that could
    have shown it. 1: violated. 2: cannot tell (no attack could have shown as much as is proven, or nothing is proven at
    all), or invalid input. Every setting is audited at the scenario's first seed, about half a minute each on digits.
    The same command again continues where it stopped. Audits in the folder of a sweep are part of its report.
    """
    log: list[Path] = []
    with exit_codes(log, as_json):
        folder = results_folder(out)
        prepare()
        from autoflip_secure.scenarios.config.sources import read_source

        document = read_source(scenario)
        from autoflip_secure.scenarios.audits.sweep_audit import audit_scenario
        from autoflip_secure.scenarios.config.loading import resolve
        from autoflip_secure.scenarios.config.plan import plan

        work = plan(resolve(document, overrides or []))
        folder = folder or Path("runs") / work.name
        log.append(folder)
        records = audit_scenario(work, folder, lambda text: print(visible(text), file=sys.stderr, flush=True))
        from autoflip_secure.reports.pages.audit import write_audit
        from autoflip_secure.reports.wording.audit import sentences

        path = write_audit(records, work.written, folder / "audit.html", command=this_command())
        verdicts = [record.verdict for record in records]
        data = {
            "folder": str(folder), "page": str(path), "violated": verdicts.count("violated"),
            "cannot_tell": verdicts.count("cannot tell"), "verdicts": verdicts,
            "audits": [record.model_dump(mode="json") for record in records],
        }  # fmt: skip
        tell(data, as_json, [*sentences(records), f"Audit: {path.resolve().as_uri()}"])
        if code := _exit_code(verdicts):
            raise typer.Exit(code)


def _exit_code(verdicts: Sequence[Verdict]) -> int:
    """See :func:`audit`."""
    if "violated" in verdicts:
        return 1
    return 2 if "cannot tell" in verdicts or "holds" not in verdicts else 0
