"""Parties that serve in threads of the tests' own process."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from callers import Start

from autoflip_secure.defenses.secure_aggregation import party
from autoflip_secure.defenses.secure_aggregation.party import Party
from autoflip_secure.defenses.secure_aggregation.wire import Address


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Start]:
    """Parties that serve in threads of this process."""
    with ExitStack() as stack:

        def begin(certificates: Path | None = None) -> tuple[Party, Address]:
            where = Address(str(tmp_path / "p"), None) if certificates is None else Address("127.0.0.1", 0)
            listener = party.listen(where)
            stack.callback(listener.close)
            one = Party(listener, certificates)
            threading.Thread(target=one.serve, daemon=True).start()
            return one, where if certificates is None else Address("127.0.0.1", listener.getsockname()[1])

        yield begin
