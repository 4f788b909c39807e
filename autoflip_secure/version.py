"""The version, for those that the front door is above."""

__version__ = "0.1.0"
