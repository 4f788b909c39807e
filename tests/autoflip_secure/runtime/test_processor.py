"""The processor is named by what kernels are chosen by, from what systems really say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoflip_secure.federation.measures import versions
from autoflip_secure.runtime import kernels, processor

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: 0x1
cpu MHz\t\t: 2000.000
cache size\t: 107520 KB
flags\t\t: fpu vme sse sse2 avx2 avx512f avx512_bf16 amx_bf16 amx_tile

processor\t: 1
vendor_id\t: GenuineIntel
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd bf16 sve
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1
"""


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    cached = (processor.identity, processor.bfloat16_units, processor._first)
    for one in cached:
        one.cache_clear()
    yield
    for one in cached:
        one.cache_clear()


def said(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    about = tmp_path / "cpuinfo"
    about.write_text(text)
    monkeypatch.setattr(processor, "_ABOUT", about)
    for one in (processor.identity, processor.bfloat16_units, processor._first):
        one.cache_clear()
    return processor.identity(), processor.bfloat16_units()


def test_models_caches_and_vector_units_tell_processors_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, units = said(INTEL, tmp_path, monkeypatch)
    assert one.startswith("GenuineIntel Intel(R) Xeon(R) Platinum 8480+ 6 143 8 107520 KB, vectors ")
    assert units == "AMX"
    others = [INTEL.replace("143", "207"), INTEL.replace("107520", "61440"), INTEL.replace(" amx_bf16", "")]
    assert len({one, *(said(other, tmp_path, monkeypatch)[0] for other in others)}) == 4
    assert said(INTEL.replace(" amx_bf16", ""), tmp_path, monkeypatch)[1] == "AVX512_BF16"
    assert said(INTEL.replace(" avx512_bf16 amx_bf16", ""), tmp_path, monkeypatch)[1] == "emulation"


def test_what_changes_from_day_to_day_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = said(INTEL, tmp_path, monkeypatch)
    same = INTEL.replace("2000.000", "3500.000").replace("0x1", "0x2").replace("fpu vme", "vme ibrs fpu")
    assert said(same, tmp_path, monkeypatch)[0] == one


def test_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, units = said(ARM, tmp_path, monkeypatch)
    assert one.startswith("0x41 8 0x1 0xd40 1, vectors ")
    assert units == "Arm's BF16"
    monkeypatch.setattr(processor, "_ABOUT", tmp_path / "nothing")
    for each in (processor.identity, processor.bfloat16_units, processor._first):
        each.cache_clear()
    assert processor.identity()
    assert processor.bfloat16_units() == "unknown units"


def test_records_of_mixed_precision_say_what_multiplied() -> None:
    assert "bfloat16" not in kernels.description()
    assert versions(mixed=True)["kernels"] == kernels.description(mixed=True)
    assert f"bfloat16 by {processor.bfloat16_units()}" in kernels.description(mixed=True)
