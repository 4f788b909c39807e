"""Links between machines: real parties that speak mutual TLS, and everybody who has no business with them."""

import re
import shutil
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Pipe
from pathlib import Path

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from party_pools import tapped

from autoflip_secure.defenses.secure_aggregation import certificates, party, tls
from autoflip_secure.defenses.secure_aggregation.certificates import make_certificates
from autoflip_secure.defenses.secure_aggregation.greeting import Calls, Joins, greet
from autoflip_secure.defenses.secure_aggregation.local_parties import LISTENS, Parties, be_party
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.wire import Address, Channel, WireError, dial
from autoflip_secure.errors import InputError, SecureSumError
from autoflip_secure.runtime.processes import start
from autoflip_secure.secure_rows.secret_rows import LocalRows

ROWS, IDS = torch.arange(120).view(4, 30) * 1_000_003 + 77, (3, 5, 8, 9)
HOSTS = ("127.0.0.1", "127.0.0.2")


@contextmanager
def running(host: str, folder: Path | None) -> Iterator[Address]:
    """A party's process."""
    here, there = Pipe()
    process = start(
        be_party, there, Address(host, 0), folder, imports=["autoflip_secure.defenses.secure_aggregation.party"]
    )
    try:
        assert here.poll(60)
        said = here.recv_bytes().decode()
        assert said.startswith(LISTENS), said
        yield Address(host, int(said.rpartition(":")[2]))
    finally:
        process.kill()
        process.join()
        process.close()
        here.close()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "certificates"
    make_certificates(folder, [[host] for host in HOSTS], 1)
    return folder


@pytest.fixture(scope="module")
def parties(sealed: Path) -> Iterator[Parties]:
    """One party on each host, with the certificate that was made for it."""
    with ExitStack() as stack:
        there = [stack.enter_context(running(host, sealed / f"party-{host}")) for host in HOSTS]
        yield Parties(tuple(there), 20, certificates=sealed / "server")


def refused(where: Parties, message: str) -> None:
    with pytest.raises((InputError, SecureSumError), match=message) as caught:
        Session(where)
    assert re.fullmatch(r"secure sum: [^\n]{20,300}", str(caught.value)), "one sentence"


def mixed(folder: Path, authority: Path, own: Path) -> Path:
    """A machine that believes in one authority and shows a certificate of another."""
    shutil.copytree(own, folder)
    shutil.copy(authority / tls.AUTHORITY, folder / tls.AUTHORITY)
    return folder


def test_sums_and_norms_over_tls_are_those_of_one_process(parties: Parties) -> None:
    with Session(parties) as session:
        shared, local = session.share(ROWS, IDS), LocalRows(ROWS, IDS)
        assert torch.equal(shared.total(), local.total())
        assert torch.equal(shared.squared_norms(), local.squared_norms())
        for channel in session._channels:
            assert isinstance(channel.socket, ssl.SSLSocket)
            assert channel.socket.version() == "TLSv1.3"


def test_who_reads_the_wires_reads_no_word(parties: Parties) -> None:
    def heard(where: Parties) -> bytes:
        with tapped(where) as (through, taps), Session(through) as session:
            assert torch.equal(session.share(ROWS, IDS).total(), ROWS.sum(0))
        return b"".join(bytes(tap.heard) for tap in taps)

    assert b'"op":"share"' not in heard(parties)
    with running("127.0.0.1", None) as one, running("127.0.0.1", None) as other:
        assert b'"op":"share"' in heard(Parties((one, other), 20)), "the doubt: where nothing protects, it is there"


# ------------------------------------------------------------------------------------------------ who is not let in


def test_a_server_of_another_authority_trusts_no_party(parties: Parties, tmp_path: Path) -> None:
    make_certificates(tmp_path / "other", [["127.0.0.1"]], 1)
    refused(
        replace(parties, certificates=tmp_path / "other" / "server"),
        r"party 0 \(127\.0\.0\.1:\d+\) shows a certificate that is not accepted \(.*(issuer|self-signed).*\)",
    )


def test_parties_refuse_a_certificate_of_another_authority(parties: Parties, sealed: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path / "other", [["127.0.0.1"]], 1)
    folder = mixed(tmp_path / "mixed", sealed / "server", tmp_path / "other" / "server")
    refused(
        replace(parties, certificates=folder),
        r"party 0 \(\S+\) does not accept the certificate shown to it \(unknown ca\); create those of all machines",
    )


def test_parties_refuse_a_caller_without_a_certificate(parties: Parties, sealed: Path) -> None:
    bare = ssl.create_default_context(cafile=str(sealed / "server" / tls.AUTHORITY))
    channel = dial(parties.addresses[0], "party 0", 10, bare)
    with pytest.raises(WireError, match=r"party 0 does not accept the certificate .*\(certificate required\)"):
        greet(channel, calls(parties))
    channel.close()


def calls(parties: Parties, rank: int = 0) -> Calls:
    return Calls(session="s", rank=rank, timeout=10.0, parties=list(parties.addresses))


def test_expired_certificates_are_refused_by_whoever_sees_them(parties: Parties, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    authority = certificates._authority(key, now, 1)
    for folder, begin in (("late", now - timedelta(days=2)), ("good", now)):
        for role, name in (("server", None), ("party", "127.0.0.1")):
            names = [] if name is None else [certificates._alternative(name)]
            (tmp_path / folder).mkdir(exist_ok=True)
            certificates._write(tmp_path / folder / role, authority, key, role, names, begin, 1)
    with running("127.0.0.1", tmp_path / "good" / "party") as there:
        one = Parties((there, parties.addresses[1]), 20, certificates=tmp_path / "late" / "server")
        refused(one, r"party 0 \(\S+\) does not accept the certificate shown to it \(certificate expired\)")
    with running("127.0.0.1", tmp_path / "late" / "party") as there:
        one = Parties((there, parties.addresses[1]), 20, certificates=tmp_path / "good" / "server")
        refused(one, r"party 0 \(\S+\) shows a certificate that is not accepted \(certificate has expired\)")


def test_plaintext_is_refused_at_either_end(parties: Parties) -> None:
    refused(replace(parties, certificates=None), r"party 0 \(\S+\) (closed the connection|is gone|does not speak)")
    with running("127.0.0.1", None) as bare:
        refused(replace(parties, addresses=(bare, *parties.addresses)), r"party 0 \(\S+\) (does not speak TLS|is gone)")


def test_a_party_is_the_machine_that_its_certificate_names(parties: Parties, sealed: Path) -> None:
    with running("127.0.0.3", sealed / "party-127.0.0.1") as elsewhere:
        refused(
            replace(parties, addresses=(elsewhere, *parties.addresses)),
            r"party 0 \(127\.0\.0\.3:\d+\) shows a certificate that is not accepted "
            r"\(IP address mismatch, certificate is not valid for '127\.0\.0\.3'\)",
        )


def test_a_certificate_speaks_for_one_role_only(parties: Parties, sealed: Path) -> None:
    refused(replace(parties, certificates=sealed / "party-127.0.0.1"), r"the certificate shown to it is not a server's")
    channel = dial(parties.addresses[0], "party 0", 10, tls.context(sealed / "server", "calls"))
    with pytest.raises(WireError, match="the certificate shown to it is not a party's"):
        greet(channel, Joins(session="s", rank=0, patience=5.0))
    channel.close()


def test_a_party_joins_in_its_own_name_only(parties: Parties, sealed: Path) -> None:
    """Its certificate is for 127.0.0.2, and it says that it is party 0, which is at 127.0.0.1."""
    server = dial(parties.addresses[1], "party 1", 10, tls.context(sealed / "server", "calls"))
    greet(server, calls(parties, rank=1))
    false = dial(parties.addresses[1], "party 1", 10, tls.context(sealed / "party-127.0.0.2", "calls"))
    greet(false, Joins(session="s", rank=0, patience=5.0))
    header, _ = server.receive()
    assert re.fullmatch(
        r"who called as party 0 \(127\.0\.0\.1:\d+\) shows the certificate of another machine", header["error"]
    )
    server.close()
    false.close()


def test_slow_and_silent_callers_keep_nobody_waiting(parties: Parties) -> None:
    with ExitStack() as stack:
        for address in parties.addresses * 20:
            caller = stack.enter_context(socket.create_connection(address))
            caller.sendall(b"\x16\x03\x01")  # the beginning of a greeting in TLS, and then nothing
        began = time.monotonic()
        with Session(parties) as session:
            assert torch.equal(session.share(ROWS, IDS).total(), ROWS.sum(0))
        assert time.monotonic() - began < party.GREETING_SECONDS


# --------------------------------------------------------------------------------------------------- the certificates


def loaded(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / tls.CERTIFICATE).read_bytes())


def test_what_the_command_makes(tmp_path: Path) -> None:
    found = make_certificates(tmp_path / "c", [["10.0.0.5", "one.example"], ["::1"]], 30)
    assert list(found) == ["server", "10.0.0.5", "::1"]
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    files = sorted(path.relative_to(tmp_path / "c") for path in (tmp_path / "c").rglob("*.pem"))
    assert len(files) == 9, "the authority's key is nowhere"
    for folder in found.values():
        assert stat.S_IMODE((folder / tls.KEY).stat().st_mode) == 0o600
        own = loaded(folder)
        assert isinstance(own.public_key(), ec.EllipticCurvePublicKey)
        assert own.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=30)
    names = loaded(found["10.0.0.5"]).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5"]
    assert names.get_values_for_type(x509.DNSName) == ["one.example"]
    uses = loaded(found["server"]).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH], "who calls only cannot pass for a party"


@pytest.mark.parametrize(
    ("machines", "said"),
    [
        ([["a b"]], r"'a b' is neither a host name nor an address"),
        ([["../up"]], r"neither a host name"),
        ([["10.0.0.300"]], r"'10\.0\.0\.300' is neither a host name nor an address"),
        ([["a.example"], ["b.example", "a.example"]], r"a\.example is given twice"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, machines: list[list[str]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_certificates(tmp_path / "c", machines, 1)
    assert not (tmp_path / "c").exists()


def test_a_folder_that_is_used_or_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not empty; give a folder that does not exist yet"):
        make_certificates(tmp_path, [["a"]], 1)
    with pytest.raises(InputError, match="cannot be written"):
        make_certificates(tmp_path / "file", [["a"]], 1)


def test_folders_that_do_not_fit_are_refused_with_one_sentence(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no ca\.pem in .*; autoflip-secure certificates creates it"):
        tls.context(tmp_path, "calls")
    make_certificates(tmp_path / "c", [["a"]], 1)
    with pytest.raises(InputError, match=r"there is no ca\.pem in .*; give .*/party-a or .*/server$"):
        tls.context(tmp_path / "c", "calls")
    shutil.copytree(sealed / "server", tmp_path / "wrong")
    shutil.copy(sealed / "party-127.0.0.1" / tls.KEY, tmp_path / "wrong" / tls.KEY)
    with pytest.raises(InputError, match=r"cannot be read from \S+ \(KEY_VALUES_MISMATCH\); copy the whole folder"):
        tls.context(tmp_path / "wrong", "calls")


def test_links_without_certificates_ask_nothing() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, "somebody", 1)
    assert tls.shows_role(channel.certificate, "server")
    assert tls.shows_host(channel.certificate, "anywhere")
    channel.close()
    theirs.close()
