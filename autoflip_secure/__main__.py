"""``python -m autoflip_secure`` and the console script."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
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
