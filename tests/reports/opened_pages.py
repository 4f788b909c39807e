"""Pages in a real Chromium, with everything that they ask for or complain about."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ARGUMENTS += ["--no-first-run", "--disable-sync"]
HOSTILE = (
    "<script>window.pwned = 1</script>",
    "\"quoted\" 'single' `tick` | pipe & <b>bold</b> </script></style>--> {{ 7 * 7 }}",
    "very-long-" * 60,
    "שלום עולם \u202eevil مرحبا",
)


@dataclass
class Seen:
    """What a page did besides being looked at."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def unfold(page: Page) -> None:
    """Open every section and everything folded in it."""
    page.eval_on_selector_all("main details", "all => all.forEach(d => d.open = true)")


@contextlib.contextmanager
def opened(browser: Browser, path: Path, **options: Any) -> Iterator[tuple[Page, Seen]]:
    """The page, with everything it asks for beyond itself refused and noted."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    seen = Seen()
    own = path.as_uri()

    def guard(route: Any) -> None:
        if route.request.url == own:
            route.continue_()
        else:
            seen.requests.append(route.request.url)
            route.abort()

    page = context.new_page()
    page.route("**/*", guard)
    page.on(
        "console", lambda message: seen.errors.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(own)
    yield page, seen
    context.close()
