"""Data sets from files, and who owns which samples.

Every reader gives arrays as they lie on disk and runs no code from them.
"""
