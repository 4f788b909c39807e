"""Mutual TLS 1.3 between machines: both ends show a certificate of one private authority, and verify the other's.

A folder of :mod:`.certificates` holds what one machine needs. Python's ``ssl`` does the rest: chain, dates, use
of the key and, for who calls, the name of the machine that was called.
"""

from __future__ import annotations

import glob
import ipaddress
import os
import ssl
from pathlib import Path
from typing import Any, Final, Literal

from autoflip_secure.errors import InputError

AUTHORITY, CERTIFICATE, KEY = "ca.pem", "certificate.pem", "key.pem"
ROLES: Final = {"server": "urn:autoflip-secure:server", "party": "urn:autoflip-secure:party"}
"""Stands in a certificate as one of its subject's names."""


def context(folder: Path, side: Literal["calls", "is called"]) -> ssl.SSLContext:
    """What a connection needs.

    Args:
        folder: with the authority's certificate, the own one and its key.
        side: of the connection.

    Raises:
        InputError: something is missing there, or does not fit together.
    """
    calls = side == "calls"
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if calls else ssl.PROTOCOL_TLS_SERVER)
    found.minimum_version = ssl.TLSVersion.TLSv1_3
    found.check_hostname = calls
    found.verify_mode = ssl.CERT_REQUIRED
    found.verify_flags |= ssl.VERIFY_X509_STRICT
    if not calls:
        found.num_tickets = 0  # nobody comes back to a connection
    for name in (AUTHORITY, CERTIFICATE, KEY):
        if not os.path.isfile(folder / name):
            found_in = map(os.path.dirname, sorted(glob.glob(f"*/{name}", root_dir=folder)))
            inside = [str(folder / one) for one in found_in]
            way_out = f"give {' or '.join(inside[:3])}" if inside else "autoflip-secure certificates creates it"
            raise InputError(f"certificates: there is no {name} in {folder}; {way_out}")
    try:
        found.load_verify_locations(folder / AUTHORITY)
        found.load_cert_chain(folder / CERTIFICATE, folder / KEY, password="")  # "": never ask at a terminal
    except OSError as error:
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise InputError(
            f"certificates: cannot be read from {folder} ({why or error}); copy the whole folder that autoflip-secure "
            "certificates made for this machine"
        ) from error
    return found


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def shows_role(certificate: dict[str, Any] | None, role: str) -> bool:
    """Whether a verified certificate is one of ``role``; of a link without certificates (None) nothing is asked."""
    return certificate is None or ("URI", ROLES[role]) in certificate.get("subjectAltName", ())


def shows_host(certificate: dict[str, Any] | None, host: str) -> bool:
    """Whether a verified certificate was made for ``host``; of a link without (None) nothing is asked."""
    names = () if certificate is None else certificate.get("subjectAltName", ())
    return certificate is None or _canonical(host) in {_canonical(name) for kind, name in names if kind != "URI"}
