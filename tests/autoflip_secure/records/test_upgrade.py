"""What an earlier version wrote is read as it would be written now; what is neither is left to validation."""

import json
from pathlib import Path
from typing import Any

import pytest

from autoflip_secure.records.run import SCHEMA_VERSION, RunRecord
from autoflip_secure.records.upgrade import READABLE, upgraded

GOLDEN = Path(__file__).parents[2] / "golden" / "record.json"  # written by schema 1


@pytest.fixture
def old() -> dict[str, Any]:
    record: dict[str, Any] = {**json.loads(GOLDEN.read_text(encoding="utf-8"))[1], "guidance": None}
    assert record["schema_version"] == 1
    return {**record, "versions": {}, "timing": {}}


def test_a_record_of_schema_1_is_read_with_the_names_of_now(old: dict[str, Any]) -> None:
    record = RunRecord.model_validate_json(json.dumps(old))
    assert record.schema_version == SCHEMA_VERSION == max(READABLE)
    assert record.malicious_clients == old["bad_clients"] != []
    assert [entry.malicious for entry in record.rounds] == [entry["bad"] for entry in old["rounds"]]
    assert record.exploration is not None
    assert record.exploration.malicious == old["exploration"]["bad"]
    assert [step.replace("malicious", "bad") for step in record.pipeline] == old["pipeline"]
    assert not [step for step in record.pipeline if "bad" in step]


def test_what_is_written_is_read_again_unchanged(old: dict[str, Any]) -> None:
    record = RunRecord.model_validate(old)
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_a_key_of_a_configuration_that_was_renamed(old: dict[str, Any]) -> None:
    old["config"]["privacy"] = {"kind": "sample_level", "fix_modules": True}
    assert upgraded(old)["config"]["privacy"] == {"kind": "sample_level", "replace_unsupported_layers": True}
    assert "fix_modules" in old["config"]["privacy"], "what is given is not changed"


@pytest.mark.parametrize("document", [None, [], "text", {}, {"schema_version": 3, "bad_clients": [1]}, {"bad": 1}])
def test_anything_else_is_left_as_it_is(document: object) -> None:
    assert upgraded(document) == document


@pytest.mark.parametrize("damage", [{"rounds": 3}, {"rounds": [3]}, {"pipeline": [1]}, {"config": {"privacy": 1}}])
def test_damage_is_found_by_validation_not_here(damage: dict[str, Any], old: dict[str, Any]) -> None:
    upgraded({**old, **damage})
    if "config" not in damage:
        with pytest.raises(ValueError, match="validation error"):
            RunRecord.model_validate({**old, **damage})
