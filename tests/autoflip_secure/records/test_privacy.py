"""Records of earlier versions are read, and say what was proven."""

from typing import Any

from autoflip_secure.records.privacy import PrivacyRecord


def early(relation: str) -> dict[str, Any]:
    release = {
        "name": "updates", "observer": "server", "client": 0, "first_round": 1, "last_round": 3,
        "mechanism": "gaussian", "relation": relation, "sampling": "poisson", "rate": 0.1, "population": 100,
        "steps": 30, "noise_multiplier": 1.0, "reason": "", "post_processing": [],
    }  # fmt: skip
    client = {"client": 0, "delta": 1e-3, "rdp": 2.0, "prv": None, "training": 2.0}
    guarantees = [
        {
            "observer": observer, "relation": relation, "proven": True, "reason": "", "clients": [client],
            "releases": [{**release, "observer": observer}], "over_rounds": [[3, 2.0]],
        }
        for observer in ("server", "public")
    ]  # fmt: skip
    return {"unit": "sample", "noise_multipliers": [1.0], "guarantees": guarantees, "attempts": 1, "notes": []}


def test_a_record_without_another_client_is_read() -> None:
    record = PrivacyRecord.model_validate(early("zero out one sample"))
    assert record.epsilon("public") == 2.0
    assert record.epsilon("another client") is None


def test_what_was_called_add_or_remove_was_proven_for_zero_out() -> None:
    record = PrivacyRecord.model_validate(early("add or remove one sample"))
    found = {g.relation for g in record.guarantees} | {r.relation for g in record.guarantees for r in g.releases}
    assert found == {"zero out one sample"}
    again = PrivacyRecord.model_validate_json(record.model_dump_json())
    assert again == record
