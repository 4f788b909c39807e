"""The file of a cell -> its record: the one way to read one, whether an index knows the file or not.

An index (:mod:`.index`) says what a file with certain bytes holds. The bytes are read and hashed every time, so that a
file that was changed, damaged or replaced is never taken for what it was.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from autoflip_secure.errors import StoreError
from autoflip_secure.files.checksums import unsealed
from autoflip_secure.files.first_bytes import instead
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.records.run import SCHEMA_VERSION, RunRecord
from autoflip_secure.records.stored import Known, stored
from autoflip_secure.scenarios.config.settings import content_hash

if TYPE_CHECKING:
    from autoflip_secure.scenarios.store.index import CellIndex

_CHECKSUM = re.compile(rb',"checksum":"[0-9a-f]{64}"\}\Z')  # as a sweep writes it, at the end


def read_record(path: Path, index: CellIndex | None = None) -> RunRecord:
    """One cell's file.

    Args:
        path: the file.
        index: of its folder. A file that it knows is not parsed, and gives a :class:`.StoredRecord`; one that it does
            not know is parsed and added to it.

    Raises:
        StoreError: unreadable, not JSON, not a record, changed after it was written, of another schema version, or
            another cell than its name says.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    if index is None:
        return _record(path, content)
    digest = hashlib.sha256(content).digest()
    known = index.known(path.stem, digest)
    if known is None:
        record = _record(path, content)
        known = index.add(record, digest)
    return record if known is None else in_file(path, digest, known)


def in_file(path: Path, digest: bytes, known: Known) -> RunRecord:
    """A record that reads the rest of itself when it is needed.

    Args:
        path: its file.
        digest: SHA-256 of what the file holds.
        known: what that is.
    """
    return stored(known, partial(_again, path.absolute(), digest))  # whoever asks may be in another folder by then


def _again(path: Path, digest: bytes) -> RunRecord:
    """What was looked at before, whole."""
    try:
        content = read_regular(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read any more ({error.strerror}); run the same command again") from error
    if hashlib.sha256(content).digest() != digest:
        raise StoreError(f"{path}: was changed while it was being read; run the same command again")
    bare, sealed = _CHECKSUM.subn(b"}", content)  # these bytes had the right checksum when they were looked at
    return RunRecord.model_validate_json(bare) if sealed else _record(path, content)


def _record(path: Path, content: bytes) -> RunRecord:
    """Parse and check everything."""
    try:
        record = RunRecord.model_validate_json(unsealed(content))
    except StoreError as error:
        raise StoreError(f"{path}: is damaged ({error})") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: is damaged ({at + ': ' if at else ''}{first['msg']})") from error
    except ValueError as error:
        what = instead(content, "a cell", "restore it", "text", "empty")
        raise StoreError(f"{path}: {what or f'is damaged (not JSON: {error})'}") from error
    if record.schema_version != SCHEMA_VERSION:
        raise StoreError(f"{path}: has schema version {record.schema_version}; this program reads {SCHEMA_VERSION}")
    if record.cell != path.stem or content_hash(record.config) != record.cell:
        raise StoreError(f"{path}: is damaged (its configuration does not have the hash of its name)")
    return record
