"""A Ray cluster: one that is there, or one of this machine alone, started for a sweep and stopped behind it.

A cluster is trusted: whoever reaches its ports runs code on its machines, and between them go pickled objects. None of
Ray's telemetry, dashboards or printing is wanted here.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.runtime.interrupts import Interrupted

OPTION = "--engine ray"
_ADDRESS = re.compile(r"(?P<host>[^\s/:]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")
_REACHED_IN = 5.0  # seconds
_TRIES = "5"  # to learn from a cluster which one it is; Ray itself would ask for 20 seconds
_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"  # a frame of HTTP/2 with which both sides begin, and Ray speaks gRPC
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # what asks for no GPU sees none
    "RAY_SCHEDULER_EVENTS": "0",
}


def refuse_address(address: str | None) -> None:
    """Ray is installed, and something answers where a cluster is said to be.

    Raises:
        InputError: not so.
    """
    if find_spec("ray") is None:
        raise InputError(f"{OPTION}: Ray is not installed; pip install 'autoflip-secure[ray]'")
    if address is None:
        return
    place, known = f"--ray-address {address:.60}", _ADDRESS.fullmatch(address)
    if known is None or not 0 < int(known["port"]) < 65536:
        raise InputError(
            f"{place}: should be HOST:PORT, as `ray start --head` prints it; 127.0.0.1:6379 on that machine"
        )
    way_out = (
        "start a cluster with `ray start --head`, give the address that it prints, or leave it out for a cluster of "
        "this machine alone"
    )
    try:
        with socket.create_connection((known["host"].strip("[]"), int(known["port"])), _REACHED_IN) as there:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return  # it speaks no plain HTTP/2
            there.sendall(_HELLO)
            answer = there.recv(9)
    except OSError as error:
        why = "timed out" if isinstance(error, TimeoutError) else error.strerror or error
        raise InputError(f"{place}: nothing answers there ({why}); {way_out}") from error
    if answer[3:4] != _SETTINGS[3:4]:
        raise InputError(f"{place}: what answers there is no Ray cluster; {way_out}")


def answers(address: str) -> bool:
    """Whether anything takes connections at HOST:PORT; looks for two seconds at most."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 2.0).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def connected(address: str | None, cpus: int) -> Iterator[Any]:
    """The module ``ray``, connected while the context lasts; a program that is connected already stays so.

    Args:
        address: of a cluster; None: one of this machine is started, and stopped behind the context.
        cpus: blocks that one of this machine runs at once.

    Raises:
        InputError: the cluster cannot be used from here; says why.
        Interrupted: SIGTERM came while Ray started.
    """
    for name, value in (_QUIET | ({"RAY_NUM_REDIS_GET_RETRIES": _TRIES} if address else {})).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    own: dict[str, Any] = {"address": address} if address else {"address": "local", "num_cpus": cpus}
    if address is None:
        own["include_dashboard"] = False
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what will change in Ray
            ray.init(**own, log_to_driver=False, configure_logging=False, logging_level="ERROR")
        # when a node dies, Ray prints that on our standard output
        vars(ray._private.worker).update(_worker_logs_enabled=False)
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        raise InputError(
            f"--ray-address {address}: {_why(error)}" if address else f"{OPTION}: {_why(error)}"
        ) from error
    except SystemExit as error:  # of the handler that Ray puts there, while it starts
        raise Interrupted(signal.SIGTERM) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)
    try:
        yield ray
    finally:
        ray.shutdown()


def _why(error: Exception) -> str:
    """What Ray says of a cluster that cannot be used, as one sentence with the way out."""
    text = " ".join(str(error).split())
    versions = re.findall(r"Ray: (\S+) Python: (\S+)", text)
    if "Version mismatch" in text and len(versions) == 2:
        (ray, python), (own_ray, own_python) = versions
        return (
            f"the cluster has Ray {ray} on Python {python}, this program Ray {own_ray} on Python {own_python}; use the "
            "same on every machine"
        )
    if text.startswith("Failed to connect to Ray cluster"):
        return (
            "what answers there is not the head of a Ray cluster; give the address that `ray start --head` prints, and "
            "run the sweep on a machine of the cluster that `ray status` works on"
        )
    sentence = re.split(r"(?<=[a-z0-9)])\.\s", text, maxsplit=1)[0]
    return f"Ray cannot be used ({sentence:.200}); run the sweep on a machine of the cluster that `ray status` works on"
