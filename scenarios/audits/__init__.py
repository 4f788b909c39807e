"""Attacks on the privacy of a scenario, judged against its ledger.

The framework knows the truth and judges; attackers see what an observer sees.
"""
