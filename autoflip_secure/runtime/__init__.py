"""The process that numbers are made in: threads, kernels, signals, child processes, draws of users' code.

Every way in (command line, Python, pytest, workers, parties) calls it before the first number.
"""
