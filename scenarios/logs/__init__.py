"""Logs of federations that ran somewhere else: read, checked, and counted by the ledger. Nothing is trained.

Knows documents and error messages of :mod:`scenarios.config` and the accountants; nothing that runs cells.
"""
