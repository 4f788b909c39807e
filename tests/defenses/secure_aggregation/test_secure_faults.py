"""What can go wrong with party processes: each fault ends in an error that names who and what, within the timeout."""

import contextlib
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import PATIENCE

from autoflip_secure.defenses.secure_aggregation import local_parties as local_parties_module
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties, local_parties
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.wire import Address
from autoflip_secure.errors import AutoflipError, InputError, SecureSumError
from autoflip_secure.secure_rows.secret_rows import LocalRows

ROOT = Path(__file__).parents[3]
ROWS = torch.arange(60_000).view(3, 20_000) - 30_000
IDS = (4, 5, 6)


def process(parties: Parties, rank: int) -> multiprocessing.process.BaseProcess:
    """One party of a parties; other tests may have parties of their own in this process."""
    name = f"party-{rank} at {parties.addresses[rank]}"
    (found,) = (p for p in multiprocessing.active_children() if p.name == name)
    return found


def _threads(pid: int) -> list[str]:
    """State of every thread of a process, as the system tells it."""
    found = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return [line for status in found for line in status.splitlines() if line.startswith("State:")]


@contextlib.contextmanager
def stopped(parties: Parties, rank: int) -> Iterator[None]:
    """A party that answers nothing, as when its machine swaps or hangs."""
    pid = process(parties, rank).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    while not all("T (stopped)" in state for state in _threads(pid)):
        time.sleep(0.001)  # a busy machine takes its time to stop every thread, and one is enough to answer
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def parties() -> Iterator[Parties]:
    """Three parties that tests may stop for a while."""
    with local_parties(3, timeout=2) as where:
        yield replace(where, ours=False)  # as if somebody else had started them


def test_a_killed_party_is_named_and_nothing_is_left() -> None:
    before = {p.pid for p in multiprocessing.active_children()}
    with local_parties(2, timeout=20) as where, Session(where) as session:
        rows = session.share(ROWS, IDS)
        process(where, 1).kill()
        process(where, 1).join()
        with pytest.raises(SecureSumError, match=r"party 1 \(/\S+\) (is gone|closed the connection)"):
            rows.total()  # a death shows at once: when a timeout is over the words are others
    assert {p.pid for p in multiprocessing.active_children()} == before


def test_sockets_of_this_machine_are_for_one_user_and_gone_afterwards() -> None:
    with local_parties(2, timeout=20) as where:
        folder = Path(where.addresses[0].host).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.name for path in folder.iterdir()} == {"party-0", "party-1"}
    assert not folder.exists()


def test_a_long_temporary_folder_does_not_make_paths_of_sockets_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("deep" * 30)))
    with local_parties_module._private_folder() as folder:
        assert len(os.fsencode(folder / "party-4.tap99")) < 104
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_party_that_dies_while_it_starts_is_named() -> None:
    """Somebody kills the second one as soon as it is there; on a quick machine it may have started by then."""
    before = {p.pid for p in multiprocessing.active_children()}

    def kill(over: threading.Event) -> None:
        while not over.is_set():
            for p in multiprocessing.active_children():
                if p.pid not in before and p.name.startswith("party-1 at ") and p.pid is not None:
                    os.kill(p.pid, signal.SIGKILL)
                    return
            time.sleep(0.001)

    said = ""
    for _ in range(20):
        killer = threading.Thread(target=kill, args=(over := threading.Event(),))
        killer.start()
        try:
            with local_parties(2, 20):
                pass
        except SecureSumError as error:
            said = str(error)
        over.set()
        killer.join()
        if "while it started" in said:
            break
    assert "party 1 ended while it started (exit code -9" in said
    assert {p.pid for p in multiprocessing.active_children()} == before


@pytest.mark.parametrize("rank", [0, 2])
def test_a_silent_party_is_named_within_the_timeout(parties: Parties, rank: int) -> None:
    with Session(parties) as session:
        rows = session.share(ROWS, IDS)
        began = time.monotonic()
        with (
            stopped(parties, rank),
            pytest.raises(SecureSumError, match=rf"party {rank} \(\S+\) did not answer within"),
        ):
            rows.total()
        assert time.monotonic() - began < 5 * parties.timeout
    with Session(parties) as session:  # the others went on serving
        assert torch.equal(session.share(ROWS, IDS).total(), ROWS.sum(0))


def test_a_party_that_takes_no_shares_is_named(parties: Parties) -> None:
    large = torch.zeros(3, 2_000_000, dtype=torch.int64)  # more than the buffers between two processes hold
    with (
        Session(parties) as session,
        stopped(parties, 1),
        pytest.raises(SecureSumError, match=r"party 1 \(\S+\) did not answer within 2 s"),
    ):
        session.share(large, IDS)


def test_a_silent_party_at_the_start(parties: Parties) -> None:
    with stopped(parties, 1), pytest.raises(SecureSumError, match=r"party 1 \(\S+\) did not answer within 2 s"):
        Session(parties)


def test_sessions_do_not_disturb_one_another(parties: Parties) -> None:
    """Four at once, each with rows of its own; one breaks the rules and is put out alone."""
    parties, found = replace(parties, timeout=20), {}

    def work(number: int) -> None:
        with Session(parties) as session:
            for turn in range(5):
                rows = ROWS * (number + 1) + turn
                shared, local = session.share(rows, IDS), LocalRows(rows, IDS)
                if number == 3 and turn == 2:
                    with pytest.raises(SecureSumError, match="refuses"):
                        shared.total(torch.tensor([1, 0, 0]))
                    break
                same = torch.equal(shared.total(), local.total())
                same &= torch.equal(shared.squared_norms(), local.squared_norms())
                found[number, turn] = same

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 17
    assert all(found.values())


# --------------------------------------------------------------------------------------------------------- wrong places


def test_one_process_under_two_addresses(parties: Parties) -> None:
    first, *rest = parties.addresses
    twice = replace(parties, addresses=(first, Address(f"/{first.host}", None), *rest))
    with pytest.raises(InputError, match=r"party 0 and party 1 are the same process"):
        Session(twice)


def test_nobody_there_and_no_such_host(parties: Parties) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = Address(*free.getsockname())
    began = time.monotonic()
    with pytest.raises(SecureSumError, match=r"party 3 \(\S+\) cannot be reached within 1 s \(Connection refused\)"):
        Session(replace(parties, addresses=(*parties.addresses, address), timeout=1))
    assert time.monotonic() - began < 10
    with pytest.raises(InputError, match=r"party 0 \(nowhere\.invalid:1\): no such host"):
        Session(replace(parties, addresses=(Address("nowhere.invalid", 1), *parties.addresses)))


@pytest.mark.parametrize(
    "says",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(5000),
        b"",
        bytes([0, 0, 0, 4]) + bytes(12),
        (10**6).to_bytes(4, "big") + bytes(8) + b"[" * 10**6,
    ],
)
def test_something_else_listens_there(parties: Parties, says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            caller, _ = other.accept()
            with caller, contextlib.suppress(ConnectionError):  # it has heard enough
                caller.recv(4096)
                caller.sendall(says)

        threading.Thread(target=answer, daemon=True).start()
        address = Address(*other.getsockname())
        with pytest.raises(AutoflipError, match=r"party 0 \(\S+\) (does not speak|closed the connection)"):
            Session(replace(parties, addresses=(address, *parties.addresses)))


def test_strangers_do_not_disturb_a_party(parties: Parties) -> None:
    deep = (10**6).to_bytes(4, "big") + bytes(8) + b"[" * 10**6
    greeting = (
        b'{"protocol": 4, "role": "server", "session": "\xc3\xa9", "rank": 0, "timeout": 1e999, "parties": [1, 2]}'
    )
    strange = len(greeting).to_bytes(4, "big") + bytes(8) + greeting
    for says in (b"", b"\x00" * 12, b"GET / HTTP/1.0\r\n\r\n", os.urandom(1000), deep, strange):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(parties.addresses[0].host)
            with contextlib.suppress(ConnectionError):  # it has heard enough
                stranger.sendall(says)
    with Session(parties) as session:
        assert torch.equal(session.share(ROWS, IDS).total(), ROWS.sum(0))


# -------------------------------------------------------------------------------------------------- across addresses


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoflip_secure", *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        capture_output=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


@contextlib.contextmanager
def started(certificates: Path, host: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A party as another machine would start it."""
    arguments = ["party", "--host", host, "--port", str(port), "--certificates", str(certificates / f"party-{host}")]
    with subprocess.Popen(
        [sys.executable, "-m", "autoflip_secure", *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as party:  # fmt: skip
        assert party.stdout is not None
        try:
            line = party.stdout.readline()
            assert f"listening on {host}:" in line, party.stderr.read() if party.stderr else ""
            yield party, int(line.split(f"{host}:")[1].split()[0])
        finally:
            party.send_signal(signal.SIGINT)
            party.wait(20)


@pytest.mark.slow
def test_parties_on_several_addresses_one_of_them_late(tmp_path: Path) -> None:
    folder, hosts = tmp_path / "certificates", ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    done = command("certificates", "--out", str(folder), *hosts)
    assert done.returncode == 0, done.stderr
    assert f"copy {folder}/party-127.0.0.4 to 127.0.0.4" in done.stdout
    with socket.create_server(("127.0.0.4", 0)) as free:
        port = free.getsockname()[1]
    with started(folder, "127.0.0.2") as (_, first), started(folder, "127.0.0.3") as (_, second):
        addresses = tuple(map(Address, hosts, (first, second, port)))
        where = Parties(addresses, 60, certificates=folder / "server")
        found: list[torch.Tensor] = []

        def work() -> None:
            with Session(where) as session:
                found.append(session.share(ROWS, IDS).total())

        early = threading.Thread(target=work)
        early.start()
        time.sleep(0.5)
        assert early.is_alive(), "it waits for the third party"
        with started(folder, "127.0.0.4", port) as (last, _):
            early.join(60)
        assert torch.equal(found[0], ROWS.sum(0))
        assert last.returncode == 130
        assert last.stderr is not None


@pytest.mark.slow
def test_the_party_command_says_what_is_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command("party", "--allow-plaintext", "--port", port)
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port} (Address already in use); give" in done.stderr
    assert "Cannot assign requested address" in command("party", "--allow-plaintext", "--host", "192.0.2.1").stderr
    assert f"there is no ca.pem in {tmp_path}" in command("party", "--certificates", str(tmp_path)).stderr
