"""The comparer of benchmark runs on planted data and on a real run; what `make` makes of it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import PATIENCE

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "compare.py"


def load_script() -> ModuleType:
    """``benchmarks/`` is a folder of scripts, not a package."""
    spec = importlib.util.spec_from_file_location("benchmarks_compare", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


compare = load_script()


def document(
    seconds: dict[str, float], reference: float = 0.01, rounds: int = 3, date: str = "2026-01-01T00:00:00+00:00"
) -> dict[str, Any]:
    """What pytest-benchmark saves, as far as it matters."""
    return {
        "datetime": date,
        "benchmarks": [
            {
                "fullname": f"benchmarks/{name}",
                "stats": {"min": value, "rounds": rounds},
                "options": {"timer": "process_time"},
                "extra_info": {"reference_seconds": reference},
            }
            for name, value in seconds.items()
        ],
    }


def save(path: Path, *arguments: Any, **keywords: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(*arguments, **keywords)))
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_planted_slow_down_fails_and_is_named(tmp_path: Path) -> None:
    base = save(tmp_path / "base.json", {"a": 0.1, "b": 0.2, "c": 0.3})
    new = save(tmp_path / "new.json", {"a": 0.1, "b": 0.32, "c": 0.1})
    done = run("--base", base, "--new", new, "--ratio", 1.5)
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("a ", "b ", "c "))]
    assert [line.split() for line in lines] == [
        ["b", "20", "32", "1.60", "SLOWER", "than", "1.5"],
        ["a", "10", "10", "1.00"],
        ["c", "30", "10", "0.33", "faster"],
    ]
    assert "1 of 3 benchmarks are slower than 1.5 times the base" in done.stdout
    assert run("--base", base, "--new", new, "--ratio", 1.7).returncode == 0
    assert run("--base", new, "--new", base, "--ratio", 1.5).returncode == 1, "the other way round, c is slower"


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(1e-5, 10), min_size=1),
    st.floats(0.05, 20),
    st.floats(0.05, 20),
)
def test_the_speed_of_the_machine_does_not_count(seconds: dict[str, float], speed: float, other: float) -> None:
    """A machine that is slower in everything, the reference included, changes no ratio."""
    both = [
        {name: compare.Measured(value * factor, 0.01 * factor, 3) for name, value in seconds.items()}
        for factor in (speed, other)
    ]
    found = compare.compare(*both)
    assert sorted(change.name for change in found) == sorted(seconds)
    assert all(change.ratio == pytest.approx(1) for change in found)


def test_a_busy_machine_is_told_from_slow_code(tmp_path: Path) -> None:
    base = save(tmp_path / "base.json", {"a": 0.1}, reference=0.01)
    busy = save(tmp_path / "busy.json", {"a": 0.3}, reference=0.03)
    slow = save(tmp_path / "slow.json", {"a": 0.3}, reference=0.01)
    assert [run("--base", base, "--new", new).returncode for new in (busy, slow)] == [0, 1]


def test_one_round_is_shown_and_not_judged(tmp_path: Path) -> None:
    base = save(tmp_path / "base.json", {"a": 0.1, "old": 0.1})
    entries = document({"a": 0.1, "new": 0.1}), document({"once": 9.0}, rounds=1)
    once = {**entries[0], "benchmarks": [*entries[0]["benchmarks"], *entries[1]["benchmarks"]]}
    (tmp_path / "new.json").write_text(json.dumps(once))
    both = document({"a": 0.1, "old": 0.1}), document({"once": 0.1}, rounds=1)
    base.write_text(json.dumps({**both[0], "benchmarks": [*both[0]["benchmarks"], *both[1]["benchmarks"]]}))
    done = run("--base", base, "--new", tmp_path / "new.json")
    assert done.returncode == 0
    assert "90.00  one round, not judged" in done.stdout
    assert "only in base, not judged: benchmarks/old" in done.stdout
    assert "only in new, not judged: benchmarks/new" in done.stdout
    assert "none of 1 benchmarks" in done.stdout


def test_the_last_two_runs_by_date(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    save(folder / "machine" / "0003.json", {"a": 0.9}, date="2026-01-01T00:00:00+00:00")
    save(folder / "machine" / "0001.json", {"a": 0.1}, date="2026-01-02T00:00:00+00:00")
    newest = save(folder / "other" / "0002.json", {"a": 0.2}, date="2026-01-03T00:00:00+00:00")
    done = run("--folder", folder)
    assert done.returncode == 1
    assert "base: " + str(folder / "machine" / "0001.json") in done.stdout
    assert "new:  " + str(newest) in done.stdout
    assert run("--folder", folder, "--base", folder / "machine" / "0003.json").returncode == 0
    assert "0.2" not in run("--folder", folder, "--show").stdout
    assert f"{newest}\nbenchmark  time / reference  ms here  rounds\na                        20   200.00       3" in (
        run("--folder", folder, "--show").stdout
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is not a saved run (JSONDecodeError"),
        ("[]", "is not a saved run (TypeError"),
        ('{"benchmarks": []}', "holds no benchmarks"),
        (json.dumps(document({"a": 0.1})).replace("process_time", "perf_counter"), "not timed in processor seconds"),
        (json.dumps(document({"a": 0.1})).replace("reference_seconds", "x"), "has no 'reference_seconds'"),
        (json.dumps(document({"a": 0.1}, reference=0)), "not timed in processor seconds"),
        (json.dumps(document({"b": 0.1})), "have no benchmark in common"),
    ],
)
def test_unusable_input_is_one_sentence_and_exit_code_2(text: str, expected: str, tmp_path: Path) -> None:
    new = save(tmp_path / "new.json", {"a": 0.1})
    (tmp_path / "base.json").write_text(text)
    done = run("--base", tmp_path / "base.json", "--new", new)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_too_few_runs_and_odd_limits(tmp_path: Path) -> None:
    new = save(tmp_path / "saved" / "new.json", {"a": 0.1})
    for arguments, expected in [
        (("--folder", tmp_path / "saved"), "holds 1 saved runs, 2 are needed; run `make bench`, or name another run"),
        (("--folder", tmp_path / "none", "--show"), "holds 0 saved runs, 1 are needed; run `make bench`"),
        (("--folder", tmp_path / "saved", "--base", new), "is compared with itself"),
        (("--base", new, "--new", new, "--ratio", 0.5), "--ratio 0.5: give 1 or more"),
    ]:
        done = run(*arguments)
        assert done.returncode == 2
        assert expected in done.stderr


@pytest.mark.slow
def test_a_real_run_has_what_the_comparer_needs(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    suite = ROOT / "benchmarks" / "test_pruning.py"
    outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}  # a worker of xdist does not time
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(suite), "-q", "-k", "cnn and (evolution or threshold)", "--benchmark-only",
         f"--benchmark-json={saved}", "--benchmark-quiet"],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**outside, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = compare.read(saved)
    assert len(found) == 3
    assert all(0.001 < measured.units < 100 for measured in found.values())
    slower = json.loads(saved.read_text())
    slower["benchmarks"][0]["stats"]["min"] *= 1.6
    (tmp_path / "slower.json").write_text(json.dumps(slower))
    again = run("--base", saved, "--new", tmp_path / "slower.json")
    assert again.returncode == 1
    assert "1 of 3 benchmarks are slower" in again.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_benchmarks_still_run() -> None:
    """All but the largest: nobody else calls what they call, and what they assert of results is asserted."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    small = "not 1M and not 10M and not 100k and not many_cells and not memory and not server_side"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", "-q", "-k", small, "--benchmark-only", "--benchmark-quiet"],
        cwd=ROOT, capture_output=True, text=True, timeout=1700, check=False,
        env={**outside, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_hands_over_base_and_ratio() -> None:
    def dry(*arguments: str) -> str:
        command = ["make", "-n", "-o", ".venv/.installed", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "compare.py --ratio 1.5\n" in dry("bench-compare").replace(" \n", "\n")
    assert "compare.py --ratio 2 --base old.json" in dry("bench-compare", "RATIO=2", "BASE=old.json")
    assert "--benchmark-autosave" in dry("bench")
