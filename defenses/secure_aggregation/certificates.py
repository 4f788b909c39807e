"""Certificates for one federation: a private authority, a certificate for the server, and one for each party's.

ECDSA on P-256, signed with SHA-256. The authority's key signs what is made here and is then forgotten: nobody can add a
machine later, and nobody can steal the key; another machine means another set.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from autoflip_secure.defenses.secure_aggregation.tls import AUTHORITY, CERTIFICATE, KEY, ROLES
from autoflip_secure.errors import InputError
from autoflip_secure.files.durable import unwritable
from autoflip_secure.terminal import notes

_SKEW: Final = timedelta(minutes=5)  # by which clocks of two machines may differ
_LABEL: Final = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def make_certificates(
    out: Path, machines: Sequence[Sequence[str]], days: int, begin: datetime | None = None
) -> dict[str, Path]:
    """One folder for each machine, to be copied there; keys are readable for their owner alone.

    Args:
        out: a folder that is not there yet, or empty.
        machines: names and addresses of each party's machine, as callers will write them.
        days: how long the certificates are valid.
        begin: from when on; None: now.

    Returns:
        Folders by machine: ``server``, and the first name of each party's.

    Raises:
        InputError: a name is none, stands twice, or the folder cannot be written to.
    """
    begin = begin or datetime.now(UTC)
    names = [[_alternative(name) for name in machine] for machine in machines]
    told = [name for machine in machines for name in machine]
    lower = [name.casefold() for name in told]  # to networks, and to many file systems, a and A are one
    twice = sorted({name for name in told if lower.count(name.casefold()) > 1})
    if twice:
        raise InputError(f"certificates: {twice[0]} is given twice; name every machine once")
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"certificates: {out} is not empty; give a folder that does not exist yet")
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(key, begin, days)
        folders = {"server": out / "server", **{machine[0]: out / f"party-{machine[0]}" for machine in machines}}
        roles = ["server", *["party"] * len(machines)]
        for folder, role, own in zip(folders.values(), roles, [[], *names], strict=True):
            _write(folder, authority, key, role, own, begin, days)
    except OSError as error:
        raise InputError(f"certificates: {out}: {unwritable(error, 'give another folder with --out')}") from error
    return folders


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if _NAME.fullmatch(name) is None or name.rpartition(".")[2].isdecimal():  # 10.0.0.300 is an address gone wrong
        raise InputError(
            f"certificates: {name!r} is neither a host name nor an address; give the name that callers will use"
        )
    return x509.DNSName(name.lower())


def _builder(subject: str, issuer: x509.Name, begin: datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _SKEW)
        .not_valid_after(begin + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _authority(key: ec.EllipticCurvePrivateKey, begin: datetime, days: int) -> x509.Certificate:
    subject = "autoflip-secure parties"
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    return (
        _builder(subject, issuer, begin, days)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _write(
    folder: Path, authority: x509.Certificate, signer: ec.EllipticCurvePrivateKey, role: str,
    names: Sequence[x509.GeneralName], begin: datetime, days: int,
) -> None:  # fmt: skip
    """A server only calls; a party calls and is called."""
    key = ec.generate_private_key(ec.SECP256R1())
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if role == "party" else [])]
    certificate = (
        _builder(f"autoflip-secure {role}", authority.subject, begin, days)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([*names, x509.UniformResourceIdentifier(ROLES[role])]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    folder.mkdir(mode=0o700)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for name, content in (
        (AUTHORITY, authority.public_bytes(pem)), (CERTIFICATE, certificate.public_bytes(pem)), (KEY, secret),
    ):  # fmt: skip
        place = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(place, "wb") as file:
            file.write(content)
    if os.name == "posix" and os.stat(folder / KEY).st_mode & 0o077:
        notes.once(
            f"the file system of {folder.parent} does not keep permissions: anybody who can read the folder can read "
            "the keys in it; move it to another file system before anybody else can"
        )
