"""Imported last by the server of processes: what is there by now is never looked through, here nor in its forks.

Forks share its pages for as long as nobody writes to them, as a search for cycles does.
"""

import gc

gc.freeze()
gc.enable()
