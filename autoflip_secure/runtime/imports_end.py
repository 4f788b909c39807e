"""Imported last by the server of processes: what is there by now is never looked through, here nor in its forks.

Forks share its pages for as long as nobody writes to them, as a search for cycles does. When the server ends, they are
looked through after all, or libraries that count what they have given out complain on standard error.
"""

import atexit
import gc

gc.freeze()
gc.enable()
atexit.register(gc.unfreeze)
