"""Rows that nobody may read: numbers in a ring, and the few things that may be learned about them.

The engine asks for secure sums through these interfaces; ``defenses.secure_aggregation`` is who answers.
"""
