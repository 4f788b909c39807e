"""Results folders: one writer, a manifest, a JSON file a cell, ledgers, and what they add up to.

Whole or not at all, with checksums; a damaged file never costs another.
"""
