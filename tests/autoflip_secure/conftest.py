"""Helper modules of this folder's tests can be imported by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for private_jobs.py, odd_models.py and others
sys.path.insert(0, str(Path(__file__).parent / "training"))  # for tests that lend
