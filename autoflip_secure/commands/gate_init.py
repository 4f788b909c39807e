"""``gate init``: what a repository needs for a gate, written and run once."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.gate_texts import SCENARIO, Workflow, scenario_text, workflow_file, workflow_text
from autoflip_secure.commands.session import Overrides, exit_codes, prepare, tell, training_of
from autoflip_secure.commands.sweep import Workers
from autoflip_secure.errors import InputError
from autoflip_secure.terminal.counting import listed
from autoflip_secure.terminal.notes import remark

if TYPE_CHECKING:
    from autoflip_secure.scenarios.config.loading import LoadedScenario


def gate_init(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Of scenario, baseline and workflow.")] = (
        "robustness"
    ),
    overrides: Overrides = None,
    workflow: Annotated[Workflow, typer.Option("--workflow", help="For which CI a workflow is written.")] = (
        Workflow.github
    ),
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Run nothing: write the scenario and the workflow alone.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Write what a gate needs here: a scenario, a baseline of it, and a workflow.

    Start it in the top folder of a repository. The scenario is run once for the baseline (minutes);
    nothing is written before that is done, and nothing is overwritten. For example:

    autoflip-secure gate init --set model=my_models.small:net --set 'data={kind: npz, path: my.npz}'
    """
    log: list[Path] = []
    with exit_codes(log):
        prepare()
        scenario, baseline, place = Path(f"{name}.yaml"), Path(f"{name}.json"), workflow_file(workflow, name)
        files = [scenario, *([] if no_baseline else [baseline]), *([] if place is None else [place])]
        _refuse_existing(files)
        loaded, text = _scenario(name, overrides or [])
        if place is not None and workflow is Workflow.github and not Path(".git").exists():
            remark("this folder is not the top of a git repository, where GitHub looks for .github/workflows")
        if not no_baseline:
            log.append(Path("runs") / name)
            _run(loaded, Path("runs") / name, baseline, workers, lambda: _refuse_existing(files))
        from autoflip_secure.reports.pages.writing import write

        write(scenario, text)
        if place is not None:
            write(place, workflow_text(workflow, name))
        tell({}, False, [f"Wrote {listed([str(file) for file in files])}.", *_next(name, no_baseline)])


def _next(name: str, no_baseline: bool) -> list[str]:
    """What is left to do."""
    run = shlex.join(["autoflip-secure", "sweep", f"{name}.yaml", "--out", f"runs/{name}"])
    gate = shlex.join(["autoflip-secure", "gate", f"runs/{name}", "--baseline", f"{name}.json"])
    if no_baseline:
        return ["Make the baseline with:", run, f'{gate} --update --reason "first baseline"']
    return ["Commit them. After a change, in a fresh checkout or without the old results:", run, gate]


def _refuse_existing(files: list[Path]) -> None:
    from autoflip_secure.files.regular_files import gone

    there = [str(file) for file in files if not gone(file)]
    if there:
        raise InputError(
            f"gate init: {listed(there)} already {'exists' if len(there) == 1 else 'exist'}, and nothing is "
            "overwritten; give another --name, or remove what is there"
        )


def _scenario(name: str, overrides: list[str]) -> tuple[LoadedScenario, str]:
    """The scenario with what was set, and its file.

    Raises:
        InputError: a value does not fit; nothing was written.
    """
    from autoflip_secure.scenarios.config.documents import Document
    from autoflip_secure.scenarios.config.loading import resolve
    from autoflip_secure.scenarios.config.yaml_text import write_yaml

    set_keys = [text.partition("=")[0].strip().partition(".")[0] for text in overrides]
    if "name" in set_keys:
        raise InputError("gate init: --set name: files are named too; give --name NAME instead")
    loaded = resolve(Document.parse(write_yaml({"name": name, **SCENARIO}), "gate init"), overrides)
    kept: dict[str, Any] = {
        key: loaded.written[key] for key in dict.fromkeys([*SCENARIO, *set_keys]) if loaded.written.get(key) is not None
    }
    return loaded, scenario_text({key: kept[key] for key in sorted(kept, key=lambda key: key == "sweep")}, name)


def _run(
    loaded: LoadedScenario, folder: Path, baseline: Path, workers: int | None, look_again: Callable[[], None]
) -> None:
    """Run the scenario, or what is left of it, and write the baseline.

    Raises:
        InputError: its training failed, so that every later sweep would pass.
    """
    from autoflip_secure.commands.gate import write_baseline
    from autoflip_secure.reports.gate.baseline import effective_margins
    from autoflip_secure.reports.gate.choice import Choice
    from autoflip_secure.scenarios.config.plan import plan
    from autoflip_secure.scenarios.running.console import listener
    from autoflip_secure.scenarios.running.sweep import run_sweep
    from autoflip_secure.scenarios.store.manifest import read_manifest

    work = plan(loaded)
    with listener(len(work.keys)) as listening:
        result = run_sweep(work, folder, workers, listening, elsewhere="run it in another folder")
    found = training_of(result.records, work.outcome)
    if any(one.refuses for one in found):
        raise InputError(
            "gate init: this scenario cannot be a baseline, because every later sweep would pass against training that "
            f"failed. {' '.join(one.text for one in found if one.refuses)} Nothing was written but {folder}; change it "
            "with --set, and give it another --name or remove that folder"
        )
    for one in found:
        remark(one.text)
    look_again()
    inputs = read_manifest(folder).get("inputs", {})
    write_baseline(
        result.records, baseline, "written by gate init", effective_margins({}, []), work.outcome, Choice(), inputs
    )
