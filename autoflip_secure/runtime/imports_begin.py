"""Imported first by the server of processes: until :mod:`imports_end`, nobody looks for cycles.

Nearly all that is imported stays, and to look through it again and again takes a fifth of the time.
"""

import gc

gc.disable()
