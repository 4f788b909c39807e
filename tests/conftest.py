"""Every public tensor signature is checked while the tests run: shapes by jaxtyping, types by beartype."""

import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))  # for typecheck.py and oracles.py
install_import_hook(["autoflip_secure", "attacks", "defenses"], "typecheck.check")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the repository; tests that need it skip without it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data is not beside the repository (../shared/data)")
    return folder
