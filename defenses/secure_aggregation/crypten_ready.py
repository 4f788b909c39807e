"""CrypTen where it is installed, imported once by the process that parties of this machine are forked from."""

import contextlib

from autoflip_secure.defenses.secure_aggregation.crypten_import import crypten
from autoflip_secure.errors import InputError

with contextlib.suppress(InputError):  # each party says so itself
    crypten()
