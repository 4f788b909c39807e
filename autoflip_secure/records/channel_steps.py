"""The steps of a round in which clients send more than their updates."""

from __future__ import annotations


def with_channels(steps: list[str], names: str) -> list[str]:
    """Where the round's other channels are measured, and that they take the way of the updates from there."""
    place = next(number for number, step in enumerate(steps) if step.startswith("local training"))
    steps.insert(place + 1, f"measure {names} (in rounds that ask for it; from here on as with the update)")
    steps[steps.index("only live weights travel")] = f"only live weights and {names} travel"
    steps[steps.index("reject updates that are not finite")] = f"reject clients whose update or {names} is not finite"
    return steps
