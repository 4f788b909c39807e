"""Commands of two words: ``gate init`` stands beside ``gate DIR``, which has arguments of its own."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class Commands(TyperGroup):
    """A group in which a command's name may have two words; the longer name wins, so ``gate ./init`` is a folder."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that ``args`` begins with, and the rest."""
        name = " ".join(args[:2])
        if len(args) > 1 and name in self.commands:
            return name, self.commands[name], args[2:]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Completions of one word."""
        return [item for item in super().shell_complete(ctx, incomplete) if " " not in str(item.value)]
