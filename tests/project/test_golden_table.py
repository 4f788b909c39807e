"""Every attack against every aggregator gives the numbers that it gave: ``tests/golden/attacks_by_aggregators.csv``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import golden_table
import pytest
from golden_table import Key, Numbers, Row, diagonal, differences, keys, read, run, said_of

from autoflip_secure.scenarios.config.tables import AGGREGATORS, ATTACKS


def test_every_attack_against_every_aggregator_has_rows() -> None:
    missing, gone = sorted(set(keys()) - read().keys()), sorted(read().keys() - set(keys()))
    assert not missing, f"no golden row for {missing[:3]} and so on, {len(missing)} in all: {golden_table.RENEW}"
    assert not gone, f"golden rows of what is gone: {gone[:3]}: {golden_table.RENEW}"
    part = diagonal()
    assert {one.attack for one in part} == ATTACKS.keys()
    assert {one.aggregator for one in part} == AGGREGATORS.keys()
    assert {one.seed for one in part} == set(golden_table.SEEDS)


def test_a_part_in_which_everything_occurs_gives_the_kept_numbers() -> None:
    found = said_of(differences(run(diagonal()), diagonal()))
    assert not found, "\n".join([*found, golden_table.RENEW])


@pytest.mark.slow
def test_all_rows_are_as_they_are_kept() -> None:
    found = said_of(differences(run(keys()), keys()))
    assert not found, "\n".join([*found[:30], f"{len(found)} of {len(keys())} rows differ", golden_table.RENEW])


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["avx2", "default"])
def test_other_kernels_stay_within_the_tolerances(kernels: str) -> None:
    environment = {"avx2": "AVX2", "default": "COMPATIBLE"}[kernels]
    found = subprocess.run(
        [sys.executable, golden_table.__file__, "check"],
        env=os.environ | {"ATEN_CPU_CAPABILITY": kernels, "MKL_CBWR": environment, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout.startswith(kernels.upper())
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_row_differs_where_one_number_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Row(Numbers(0.5, 4.0, 0.2, 3), Numbers(0, 1e-3, 0, 0))
    for number, name in enumerate(Numbers._fields):
        values = list(kept.numbers)
        values[number] += 0.02
        if name == "norm":  # 0.5 %, more than twice what rounding moves it by
            assert kept.differences(kept.numbers._replace(norm=4.007)) == []
        assert [said.split()[0] for said in kept.differences(Numbers(*values))] == [name]
    assert kept.differences(kept.numbers._replace(norm=float("nan"))) != []
    monkeypatch.setattr(golden_table, "FILE", tmp_path / "table.csv")
    mean, none = Key("none", "mean", 0), Key("none", "median", 0)
    golden_table.FILE.write_text(golden_table.as_text({mean: kept, none: None}))
    assert read() == {mean: kept, none: None}
    assert differences({mean: kept.numbers}, [mean, none]) == {}
    assert differences({none: kept.numbers}, [mean, none]) == {mean: ["runs -> refused"], none: ["refused -> runs"]}
    assert list(differences({}, [none._replace(seed=1)]).values()) == [["no such row"]]
