"""Curious observers: what they conclude about samples, labels and clients from what they see.

Attacks return scores and never see the truth; the audits in ``scenarios`` judge them.
"""
