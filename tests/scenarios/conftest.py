"""Lets the tests of this folder import the helpers beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for secure_scenarios.py and others
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # for planted_faults.py
