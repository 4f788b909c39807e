"""Whether there is a baseline: asked before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from autoflip_secure.errors import InputError
from autoflip_secure.files.regular_files import gone
from autoflip_secure.terminal.near_names import nearby


def check_there(baseline: Path) -> None:
    """Something lies at the path of the baseline.

    Raises:
        InputError: nothing does; says what does nearby, and how to make one.
    """
    if gone(baseline):
        raise no_baseline(baseline)


def no_baseline(path: Path) -> InputError:
    """The error about a baseline that is not there."""
    return InputError(
        f"{path}: there is no baseline{nearby(path)}; make one from a finished sweep that you trust with --update "
        "--reason"
    )
