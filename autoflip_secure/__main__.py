"""``python -m autoflip_secure`` and the console script."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line."""
    gc.set_threshold(50_000, 20, 20)  # nearly all that is imported stays: to look through it often takes a fifth longer
    from autoflip_secure.runtime.library_warnings import tame
    from autoflip_secure.runtime.threads import one_thread_from_the_start
    from autoflip_secure.terminal.streams import show_what_can_be_shown

    one_thread_from_the_start()
    show_what_can_be_shown()
    tame()
    from autoflip_secure.cli import app

    app(prog_name="autoflip-secure")


if __name__ == "__main__":
    main()
