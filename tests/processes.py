"""Process groups, for tests that interrupt and kill."""

import os
import time


def gone(group: int) -> bool:
    """Whether no process of the group is left, in 15 seconds at most."""
    for _ in range(150):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
