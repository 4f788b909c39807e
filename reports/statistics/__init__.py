"""Statistics on plain numbers: intervals, paired tests, corrections, curves, sample sizes.

Knows no record; everything above it in this folder takes its words from here.
"""
