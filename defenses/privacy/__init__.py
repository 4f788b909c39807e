"""Differential privacy: mechanisms, accountants, and the ledger that counts every release.

What is proven, for which observer and neighbours, is decided here; scenarios only plan with it.
"""
