"""Files that are written whole or not at all, and read with care.

Everything that comes from a disk passes here: kinds of files, bounds of size, checksums of what we wrote.
"""
