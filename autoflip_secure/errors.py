"""The one error tree. Only the command line turns an error into an exit code."""


class AutoflipError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(AutoflipError):
    """The user's input is wrong: the message names the place, the value and the way out (exit code 2)."""


class DataError(InputError):
    """A data set is missing, truncated or does not fit what was asked of it."""


class UnsupportedModelError(InputError):
    """A model cannot be handled in the way that was asked for; the message says which module and why."""


class StoreError(AutoflipError):
    """A results folder cannot be used: locked, unwritable, full, or made by another scenario."""


class SecureSumError(AutoflipError):
    """A secure sum cannot go on: the message names the party and what it did or did not do."""
