"""``gate``: hold a sweep against a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.gate_outputs import Outputs
from autoflip_secure.commands.session import Json, Outcome, exit_codes, prepare, sweep_again, tell, training_of
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.terminal.counting import count_of, some
from autoflip_secure.terminal.notes import remark

if TYPE_CHECKING:
    from autoflip_secure.records.outcome import OutcomeRule
    from autoflip_secure.reports.gate.baseline import Baseline
    from autoflip_secure.reports.gate.choice import Choice
    from autoflip_secure.reports.gate.gate import GateResult
    from autoflip_secure.scenarios.store.results import Results


def gate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The results folder of a finished sweep.")],
    baseline: Annotated[Path, typer.Option("--baseline", metavar="FILE", help="The baseline file to compare with.")],
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="NAME,…",
            help="Metrics or groups that decide: accuracy, detection, backdoors, privacy, secure_sums, costs, all. "
            "Default: all but costs. With --update kept in FILE.",
        ),
    ] = None,
    advisory: Annotated[
        str | None,
        typer.Option(
            "--advisory", metavar="NAME,…", help="Those that are shown and never fail, or none. Default: costs."
        ),
    ] = None,
    margins: Annotated[
        list[str] | None,
        typer.Option(
            "--margin", metavar="NAME=VALUE", help="How much worse a metric may be (costs in %: bytes=10%); repeatable."
        ),
    ] = None,
    across: Annotated[
        list[str] | None,
        typer.Option(
            "--across",
            metavar="PATH",
            help="A setting that was changed on purpose (training.lr): compare across it; repeatable.",
        ),
    ] = None,
    more_seeds: Annotated[
        bool,
        typer.Option(
            "--more-seeds", help="If it cannot tell, run the seeds of the baseline that DIR lacks, and look once more."
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=1024, help="Worker processes for --more-seeds.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Write FILE from DIR instead; needs --reason.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why it changes; kept in FILE.")
    ] = None,
    allow_unlearned: Annotated[
        bool, typer.Option("--allow-unlearned", help="With --update: accept a sweep whose training failed.")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write Markdown (also to $GITHUB_STEP_SUMMARY).")
    ] = None,
    history: Annotated[
        Path | None, typer.Option("--history", metavar="FILE", help="Append this run to a trend file (JSON lines).")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="TEXT", help="Its name there.", show_default="$GITHUB_SHA or $CI_COMMIT_SHA"),
    ] = None,
    trend: Annotated[
        Path | None, typer.Option("--trend", metavar="FILE", help="Plot the trend file: .html, .svg or .png.")
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="FORMAT=FILE",
            help="For a tracker: customBiggerIsBetter, customSmallerIsBetter (github-action-benchmark) or bencher; "
            "repeatable.",
        ),
    ] = None,
    outcome: Outcome = None,
    as_json: Json = False,
) -> None:
    """Is this sweep worse than the baseline? Exit code 0 no, 1 yes, 2 cannot tell.

    `autoflip-secure gate init` writes a scenario, a baseline and a workflow to begin with.
    """
    with exit_codes(None, as_json):
        outputs = Outputs(junit, markdown, history, label, trend, export or [])
        if update == (reason is None):
            raise InputError("gate: --update and --reason TEXT go together: a new baseline needs a reason")
        if update and (wanted := [*outputs.named, *(["--across"] if across else []), *(["--more-seeds"] * more_seeds)]):
            raise InputError(f"gate: --update compares nothing: leave out {' and '.join(wanted)}")
        if allow_unlearned and not update:
            raise InputError("gate: --allow-unlearned is for a new baseline: give it with --update, or leave it out")
        if workers is not None and not more_seeds:
            raise InputError(
                "gate: --workers is for the seeds that are run: give it with --more-seeds, or leave it out"
            )
        prepare()
        from autoflip_secure.reports.gate.missing import check_there
        from autoflip_secure.scenarios.store.manifest import read_manifest

        manifest = read_manifest(folder)
        if not update:
            check_there(baseline)
        from autoflip_secure.records.outcome import OutcomeRule
        from autoflip_secure.reports.gate.choice import choice_of

        choice = choice_of(metrics, advisory)
        outputs.check()
        results = _whole_sweep(folder, len(manifest["cells"]))
        rule = OutcomeRule.parse(outcome, "--outcome") if outcome is not None else OutcomeRule.of(results.scenario)
        _tell_of_training(results.records, rule, refuse=update and not allow_unlearned)
        sweep = _Sweep(folder, results.records, manifest.get("inputs", {}), rule)
        if reason is not None:
            _new_baseline(sweep, baseline, reason, margins or [], choice, as_json)
            return
        from autoflip_secure.reports.gate.baseline import effective_margins, read_baseline

        held = read_baseline(baseline)
        _same_outcome(held, baseline, rule, outcome)
        asked = _Asked(held, effective_margins(held.margins, margins or []), choice.over(held.choice), across or [])
        result = _two_looks(sweep, asked, workers) if more_seeds else _look(sweep, asked)
        outputs.write(result, as_json)
        raise typer.Exit(result.exit_code)


@dataclass(frozen=True)
class _Sweep:
    """What is judged."""

    folder: Path
    records: list[Any]
    inputs: dict[str, str]
    rule: OutcomeRule


@dataclass(frozen=True)
class _Asked:
    """What it is held against, and how."""

    baseline: Baseline
    margins: dict[str, float]
    choice: Choice
    across: list[str]


def _look(sweep: _Sweep, asked: _Asked, level: float | None = None) -> GateResult:
    from autoflip_secure.reports.gate.comparison import LEVEL
    from autoflip_secure.reports.gate.gate import run_gate

    return run_gate(
        sweep.records, asked.baseline, asked.margins, asked.choice, across=asked.across, inputs=sweep.inputs,
        level=LEVEL if level is None else level,
    )  # fmt: skip


def _two_looks(sweep: _Sweep, asked: _Asked, workers: int | None) -> GateResult:
    """A look at what is there; where that cannot tell and seeds would help, one more with all of the baseline's.

    Each has half the level, so that both together keep what the gate promises.
    """
    from autoflip_secure.reports.gate.decision import TWO_LOOKS
    from autoflip_secure.reports.gate.power import power_of
    from autoflip_secure.scenarios.running.console import listener
    from autoflip_secure.scenarios.running.more_seeds import planned, run_more_seeds

    first = _look(sweep, asked, TWO_LOOKS)
    power = power_of(first)
    if power is None:
        return first
    if not power.unused:
        remark("--more-seeds: the sweep has every seed of the baseline already, so none is run")
        return first
    seeds = count_of(len(power.unused), "seed")
    remark(f"{count_of(power.open, 'metric')} cannot be told on the seeds so far: {seeds} more of the baseline are run")
    work = planned(sweep.folder, power.unused)
    with listener(len(work.keys)) as listening:
        more = run_more_seeds(sweep.folder, work, workers, listening)
    _tell_of_training(more, sweep.rule, refuse=False)
    return _look(_Sweep(sweep.folder, [*sweep.records, *more], sweep.inputs, sweep.rule), asked, TWO_LOOKS)


def _same_outcome(held: Baseline, path: Path, rule: OutcomeRule, outcome: str | None) -> None:
    """Two outcomes are never compared: the baseline's is used, and who asks for another is refused."""
    if held.rule == rule:
        return
    if outcome is not None:
        raise InputError(
            f"--outcome {outcome}: accuracy in {path} is {held.rule.words}, and two outcomes are never "
            "compared; leave --outcome out, or make a new baseline with --update --reason"
        )
    remark(f"the scenario's outcome is {rule.words}; the gate uses the baseline's, {held.rule.words}")


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


def _new_baseline(sweep: _Sweep, path: Path, reason: str, overrides: list[str], choice: Choice, as_json: bool) -> None:
    """Write the baseline; margins and choice of the one before it stay, unless given anew."""
    from autoflip_secure.files.regular_files import gone
    from autoflip_secure.reports.gate.baseline import effective_margins, read_baseline

    old = None if gone(path) else read_baseline(path)
    margins = effective_margins(old.margins if old else {}, overrides)
    kept = choice.over(old.choice) if old else choice
    new = write_baseline(sweep.records, path, reason, margins, sweep.rule, kept, sweep.inputs)
    dropped = [entry.label for key, entry in old.entries.items() if key not in new.entries] if old else []
    summary = {
        "baseline": str(path),
        "entries": len(new.entries),
        "outcome": str(sweep.rule),
        "margins": margins,
        "choice": {"deciding": sorted(kept.deciding), "advisory": sorted(kept.shown)},
        "dropped": dropped,
    }
    told = [
        f"{path}: {len(new.entries)} configurations and curves of {len(sweep.records)} cells; accuracy is "
        f"{sweep.rule.words}; {kept.words}. Commit it with your code."
    ]
    told += [f"accuracy was {old.rule.words} before"] if old and old.rule != sweep.rule else []
    tell(summary, as_json, told + [f"no longer in it: {label}" for label in dropped])


def write_baseline(
    records: list[Any],
    path: Path,
    reason: str,
    margins: dict[str, float],
    rule: OutcomeRule,
    choice: Choice,
    inputs: dict[str, str],
) -> Baseline:
    """Make a baseline of a finished sweep, and write it whole.

    Raises:
        InputError: a record cannot be compared, or there is no reason.
        StoreError: the file cannot be written.
    """
    from datetime import UTC, datetime

    from autoflip_secure.reports.gate.baseline import make_baseline
    from autoflip_secure.reports.pages.writing import write

    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = make_baseline(records, reason, now, margins, rule, choice=choice, inputs=inputs)
    write(path, new.text())
    return new
