"""Parties in network namespaces of their own: nothing is shared but a wire, as between machines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import PATIENCE

from autoflip_secure.defenses.secure_aggregation.certificates import make_certificates

ROOT = Path(__file__).parents[3]


def missing() -> str | None:
    """What this machine lacks for networks of its own; None: nothing."""
    absent = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if absent:
        return f"no command {absent[0]} (util-linux, iproute2)"
    bridge = "ip link add switch type bridge && ip link add here type veth peer name there"
    tried = subprocess.run(["unshare", "-rn", "sh", "-c", bridge], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no network of its own here: {tried.stderr.strip()}"


@pytest.mark.slow
def test_parties_in_networks_of_their_own(tmp_path: Path) -> None:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    sealed = tmp_path / "sealed"
    make_certificates(sealed, [["10.77.0.2"], ["10.77.0.3"]], 1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("across_namespaces.py")
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(script), str(sealed)],
        env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the same over 3 networks" in done.stdout
    assert "listening on 10.77.0.3:7000" in done.stdout
    assert "plaintext" not in done.stdout
