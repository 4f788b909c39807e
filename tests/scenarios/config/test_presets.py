"""The presets answer what they say they answer."""

from pathlib import Path

import pytest

from autoflip_secure.files.canonical_json import digest
from autoflip_secure.scenarios.config.loading import LoadedScenario, load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.sources import presets
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.checks import check_cells, check_inputs

BOARDS = {name for name in presets() if name.startswith("board-")}  # tests/scenarios/boards: no questions of the paper
TABLE3 = {name for name in presets() if name.startswith("table3_")}  # test_table3.py: other data and models
SOUND = sorted({*presets()} - BOARDS - TABLE3)
BUILDER = CellBuilder()  # of all presets: most have the same data, splits and models
ASKED = {"falsifier", "reexploration", "stability"}  # by the review of the paper: without tuning, with more seeds
PRIVATE = {"privacy_cost", "client_level_dp", "audit_demo"}
RIVALS = {
    "rivals": (
        {"prunefl", "eflprune", "taylor", "fedtiny", "random_units", "erk", "magnitude"},
        {"iid", "pathological"},
    ),
    "personal": (
        {"fedmask", "lotteryfl", "subfedavg", "fedspa", "spafl"},
        {"dirichlet", "pathological"},
    ),
}
SPLITS = {"iid", "dirichlet", "pathological"}
NAMES = {  # digest of the names of all cells: whoever has finished some keeps them when a scenario gets a new key
    "ablation": "1a88cd7cbb02ff4f",
    "audit_demo": "ad325332740fdb29",
    "client_level_dp": "4b54fef8e846e0a4",
    "demo": "5456855dc3cb5ba3",
    "explorers": "e792777346283ebe",
    "falsifier": "5e5b4ed014d10e03",
    "interplay": "94ba9ce04404eac0",
    "label_flip": "412aa353667138de",
    "noise_magnitude": "a4ca5bad4320f4f3",
    "noise_scope": "68ae08d333f7203b",
    "personal": "d58c661445c99b2a",
    "ppflex": "ace2b0b40b5bbca4",
    "privacy_cost": "34a32f69af6abfa8",
    "reexploration": "0387f0743f94128b",
    "rivals": "d07df2b2194be7c6",
    "secure_exploration": "52a5545bc4d9e3e6",
    "stability": "dcd83a74ef01f6cb",
    "threshold": "42833d634a27a535",
    "worst_case": "4d9d3b713a616ff7",
}


def values(scenario: LoadedScenario, path: str) -> set[object]:
    found: set[object] = set()
    for cell in scenario.cells:
        here: object = cell.config
        for part in path.split("."):
            here = here.get(part) if isinstance(here, dict) else None
        found.add(here)
    return found


def test_the_presets_are_these() -> None:
    assert set(presets()) == {
        "demo", "noise_magnitude", "noise_scope", "label_flip", "explorers", "threshold", "ablation",
        "secure_exploration", "ppflex", "interplay", "worst_case", *RIVALS, *ASKED, *PRIVATE, *BOARDS, *TABLE3,
    }  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_preset_is_sound(name: str) -> None:
    scenario = load(name)
    assert scenario.header.name == name
    assert digest([cell.key for cell in scenario.cells]) == NAMES[name]
    assert len(scenario.header.question) > 20
    assert not set(scenario.header.seeds) & set(range(10)), "seeds 0-9 are for tuning"
    if scenario.header.tune is not None:
        assert set(scenario.header.tune.seeds) <= set(range(10))
    algorithms = values(scenario, "algorithm.name")
    if name == "ppflex":
        assert algorithms == {"fedavg", "fedlex", "permuted", "ppflex"}
        assert values(scenario, "secure_sum.parties") == {None, 3}
        return
    assert {"fedavg", "autoflip"} <= algorithms
    assert values(scenario, "data.kind") == {"digits"}
    assert values(scenario, "model.kind") == {"mlp"}
    if name in PRIVATE:
        assert {"none", "sample_level", "client_level"} & values(scenario, "privacy.kind")
        return
    if name == "interplay":
        assert values(scenario, "privacy.kind") == {"none", "sample_level"}
        assert values(scenario, "secure_sum.parties") == {None, 2}
        assert algorithms == {"fedavg", "guidance_only", "agreement_only", "autoflip"}  # neither, one, the other, both
        return
    if name == "secure_exploration":
        assert values(scenario, "secure_sum.parties") == {None, 3}  # plain beside secure
        return
    if name in RIVALS:
        others, splits = RIVALS[name]
        assert others <= algorithms
        assert (values(scenario, "evaluation") == {"personal"}) == (name == "personal")
        assert values(scenario, "partition.kind") == splits
        return
    if name in ASKED:
        assert values(scenario, "partition.kind") == SPLITS
        return
    assert "autoflip_plus" in algorithms
    if name != "demo":
        assert values(scenario, "partition.kind") == SPLITS
        assert scenario.header.seeds == (10, 11, 12, 13, 14)


def test_a_folder_of_the_same_name_does_not_hide_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert load("demo").header.name == "demo"
    (tmp_path / "noise_scope").write_text("name: mine\n")
    assert load("noise_scope").header.name == "mine"


@pytest.mark.parametrize("name", SOUND)
def test_preset_builds(name: str) -> None:
    """Data, splits and models of one seed fit, so the preset starts."""
    blocks = plan(load(name, ["seeds=[10]"])).blocks
    check_inputs(blocks, BUILDER)
    check_cells(blocks, BUILDER)
    assert blocks


def test_figures_of_the_paper() -> None:
    magnitude, scope, flip = load("noise_magnitude"), load("noise_scope"), load("label_flip")
    assert len(values(magnitude, "attack.sigma")) >= 5
    assert values(magnitude, "attack.scope") - {None} == {0.2}
    assert values(scope, "attack.sigma") - {None} == {0.1, 0.5}
    assert len(values(scope, "attack.scope")) >= 4
    assert {0.3} < values(flip, "attack.share")
    assert values(flip, "attack.scope") - {None} == {0.2}
    assert values(load("threshold"), "algorithm.pruner.threshold") >= {0.1, 0.2, 0.3, 0.4, 0.5}
    assert len(values(load("explorers"), "exploration.explorers")) >= 4


def test_ablation_has_every_pruner_with_every_scoring_and_every_statistic() -> None:
    from autoflip_secure.algorithm.agreement_statistics import STATISTICS
    from autoflip_secure.scenarios.config.tables import AGGREGATORS

    scenario = load("ablation")
    mixes = {
        (c.config["algorithm"]["pruner"]["kind"], c.config["algorithm"]["aggregator"]["kind"]) for c in scenario.cells
    }
    shared = ("none", "threshold", "budget", "random_weights", "random_units", "taylor")  # rivals came later
    assert mixes >= {(p, a) for p in shared for a in ("mean", "agreement", "radial")}
    later = {
        "norm_clip",
        "weak_dp",
        "mda",
        "meamed",
        "dnc",
        "smea",
        "caf",
        "filtered_agreement",
        "flame",
        "foolsgold",
        "fltrust",
    }  # what was finished keeps its grid
    assert mixes >= {("none", a) for a in AGGREGATORS.keys() - later}
    alone = {tuple(c.config["algorithm"]["aggregator"].get("statistics", ())) for c in scenario.cells}
    assert alone >= {(name,) for name in STATISTICS}


def test_preset_takes_other_data_and_models() -> None:
    scenario = load("noise_magnitude", ["data=mnist", "model=cnn", "seeds=[10]"])
    assert values(scenario, "data.kind") == {"mnist"}
    assert values(scenario, "model.kind") == {"cnn"}


def test_the_demo_is_small_enough() -> None:
    scenario = load("demo")
    assert sum(cell.settings.rounds for cell in scenario.cells) <= 4600, "a minute on two cores"
    assert {"iid", "pathological"} == values(scenario, "partition.kind")
    assert {"none", "gaussian_noise", "label_flip"} == values(scenario, "attack.kind")
