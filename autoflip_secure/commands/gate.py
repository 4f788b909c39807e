"""``gate``: hold a sweep against a baseline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.session import Json, Outcome, exit_codes, prepare, sweep_again, tell, training_of
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.terminal.counting import some
from autoflip_secure.terminal.notes import remark

if TYPE_CHECKING:
    from autoflip_secure.records.outcome import OutcomeRule
    from autoflip_secure.scenarios.store.results import Results


def gate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The results folder of a finished sweep.")],
    baseline: Annotated[Path, typer.Option("--baseline", metavar="FILE", help="The baseline file to compare with.")],
    update: Annotated[bool, typer.Option("--update", help="Write FILE from DIR instead; needs --reason.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why it changes; kept in FILE.")
    ] = None,
    allow_unlearned: Annotated[
        bool, typer.Option("--allow-unlearned", help="With --update: accept a sweep whose training failed.")
    ] = False,
    margins: Annotated[
        list[str] | None,
        typer.Option("--margin", metavar="NAME=VALUE", help="How much worse a metric may be; repeatable."),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write Markdown (also to $GITHUB_STEP_SUMMARY).")
    ] = None,
    outcome: Outcome = None,
    as_json: Json = False,
) -> None:
    """Is this sweep worse than the baseline? Exit code 0 no, 1 yes, 2 cannot tell."""
    with exit_codes(None, as_json):
        if update == (reason is None):
            raise InputError("gate: --update and --reason TEXT go together: a new baseline needs a reason")
        if update and (junit or markdown):
            raise InputError("gate: --update compares nothing: leave out --junit and --markdown")
        if allow_unlearned and not update:
            raise InputError("gate: --allow-unlearned is for a new baseline: give it with --update, or leave it out")
        prepare()
        from autoflip_secure.reports.gate.missing import check_there
        from autoflip_secure.scenarios.store.manifest import read_manifest

        expected = len(read_manifest(folder)["cells"])
        if not update:
            check_there(baseline)
        from autoflip_secure.records.outcome import OutcomeRule

        results = _whole_sweep(folder, expected)
        records = results.records
        rule = OutcomeRule.parse(outcome, "--outcome") if outcome is not None else OutcomeRule.of(results.scenario)
        _tell_of_training(records, rule, refuse=update and not allow_unlearned)
        if reason is not None:
            _new_baseline(records, baseline, reason, margins or [], rule, as_json)
            return
        from autoflip_secure.reports.gate.baseline import effective_margins, read_baseline
        from autoflip_secure.reports.gate.files import append, junit_xml, summary
        from autoflip_secure.reports.gate.gate import run_gate
        from autoflip_secure.reports.gate.output import as_data, lines
        from autoflip_secure.reports.pages.writing import write

        held = read_baseline(baseline)
        if held.rule != rule and outcome is not None:
            raise InputError(
                f"--outcome {outcome}: accuracy in {baseline} is {held.rule.words}, and two outcomes are never "
                "compared; leave --outcome out, or make a new baseline with --update --reason"
            )
        if held.rule != rule:
            remark(f"the scenario's outcome is {rule.words}; the gate uses the baseline's, {held.rule.words}")
        result = run_gate(records, held, effective_margins(held.margins, margins or []))
        try:  # what is printed may fail, and what others read is there by then; nor does it keep the verdict back
            if junit:
                write(junit, junit_xml(result))
            if markdown:
                write(markdown, summary(result))
            if os.environ.get("GITHUB_STEP_SUMMARY"):
                append(Path(os.environ["GITHUB_STEP_SUMMARY"]), summary(result))
        finally:
            tell(as_data(result), as_json, lines(result))
        raise typer.Exit(result.exit_code)


def _whole_sweep(folder: Path, expected: int) -> Results:
    """Every cell of a finished sweep: a gate says nothing about a part of one."""
    from autoflip_secure.reports.study.missing_cells import name_missing
    from autoflip_secure.scenarios.store.results import read_results

    results = read_results(folder)
    for note in results.notes:
        remark(note)
    if results.missing:
        named = name_missing(results.missing)
        raise StoreError(
            f"{folder}: the sweep is incomplete: {len(results.missing)} of {expected} cells are missing or unusable "
            f"({some(named, 3, '; ')}); finish it with "
            f"`{sweep_again(folder)}`"
        )
    return results


def _tell_of_training(records: list[Any], rule: OutcomeRule, *, refuse: bool) -> None:
    """Remarks on training that failed, in the sweep that is judged as in one that becomes a baseline."""
    found = training_of(records, rule)
    if refuse and any(one.refuses for one in found):
        raise InputError(
            "gate: --update: this sweep cannot be a baseline, because every later one would pass against training "
            f"that failed. {' '.join(one.text for one in found if one.refuses)} Fix it and run it again, or accept it "
            "anyway with --allow-unlearned"
        )
    for one in found:
        remark(one.text)


def _new_baseline(
    records: list[Any], path: Path, reason: str, overrides: list[str], rule: OutcomeRule, as_json: bool
) -> None:
    """Write the baseline; margins that the one before it held stay, unless given anew."""
    from datetime import UTC, datetime

    from autoflip_secure.files.regular_files import gone
    from autoflip_secure.reports.gate.baseline import effective_margins, make_baseline, read_baseline
    from autoflip_secure.reports.pages.writing import write

    old = None if gone(path) else read_baseline(path)
    margins = effective_margins(old.margins if old else {}, overrides)
    new = make_baseline(records, reason, datetime.now(UTC).isoformat(timespec="seconds"), margins, rule)
    write(path, new.text())
    dropped = [entry.label for key, entry in old.entries.items() if key not in new.entries] if old else []
    summary = {
        "baseline": str(path),
        "entries": len(new.entries),
        "outcome": str(rule),
        "margins": margins,
        "dropped": dropped,
    }
    told = [
        f"{path}: {len(new.entries)} configurations and curves of {len(records)} cells; accuracy is {rule.words}. "
        "Commit it with your code."
    ]
    told += [f"accuracy was {old.rule.words} before"] if old and old.rule != rule else []
    tell(summary, as_json, told + [f"no longer in it: {label}" for label in dropped])
