"""What local training may sum up over its steps, by name."""

from __future__ import annotations

from typing import Literal

Accumulated = Literal["gradients", "squares"]
"""Mini-batch gradients g, and g², both dense."""
