"""What a reader who follows pages (:mod:`followed`) brings along, page by page: the tables to add to.

What is there before (:data:`PREPARED`, :data:`PRELUDES`), what makes a long command short (:data:`SMALLER`,
:data:`REPLACED`), exit codes that are not 0 (:data:`EXITS`), and what no test runs: the table of
docs/reference/not_run.md, which stands among the pages so that readers see it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import documented
import installed
import numpy as np
from documented import NOT_RUN
from sklearn.datasets import load_digits

from autoflip_secure.scenarios.config.sources import presets

SMALL = """\
name: {name}
model: {{kind: mlp, hidden: [16]}}
rounds: 2
clients: 6
cohort: 3
training: {{epochs: 1}}
exploration: {{epochs: 1}}
seeds: [10, 11]
sweep: {{product: {{algorithm: [fedavg, autoflip]}}}}
"""
NET = """\
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_classes))
"""
DATA = """\
from sklearn.datasets import load_digits

def load(noise=0.0):
    x, y = load_digits(return_X_y=True)
    return {"x_train": x[:900] / 16, "y_train": y[:900], "x_test": x[900:1200] / 16, "y_test": y[900:1200]}
"""
PRIVATE = "privacy: {kind: sample_level, clip: 1.0, noise_multiplier: 2}\n"

SHORT = (
    "rounds=2", "clients=6", "cohort=3", "seeds=[10, 11]", "training.epochs=1", "exploration.epochs=1",
)  # fmt: skip
"""What `sweep` and `audit` outside of tutorials are given besides; presets with one seed; single ones instead:"""
SMALLER: dict[str, tuple[str, ...]] = {
    "worst_case": (
        "rounds=2", "clients=10", "cohort=5", "seeds=[10]", "training.epochs=1", "exploration.epochs=1",
        "suite=standard-1", "tune.seeds=[0]", "tune.axes={training.lr: [0.1, 0.2]}",
        "sweep={product: {partition: [iid], algorithm: [fedavg, autoflip_held]}}",
    ),
    "client_level_dp": (
        "sweep={product: {algorithm: [fedavg], privacy: [none, {kind: client_level, clip: 1.0, noise_multiplier: 4}]}}",
        "rounds=2", "clients=20", "cohort=10", "seeds=[10]", "training.epochs=1", "exploration.epochs=1",
    ),
    "audit_demo": ("rounds=2",),
    "personal": (  # Sub-FedAvg compares the first epoch with the last
        "rounds=2", "clients=6", "cohort=3", "seeds=[10]", "training.epochs=2", "exploration.epochs=1", "tune=null",
    ),
}  # fmt: skip
_NOISE = (  # what a preset sweeps, made small
    'sweep={"product": {"attack": [{"kind": "gaussian_noise"}], "attack.sigma": [0.1, 0.5], "algorithm": ["fedavg", '
    '"autoflip"]}}, rounds=2, seeds=[10, 11], clients=6, cohort=3, tune=None'
)
REPLACED: dict[str, dict[str, str]] = {  # page -> in Python: text -> what is shorter
    "README.md": {"rounds=20": _NOISE},
    "docs/python.md": {"rounds=20, seeds=range(10, 13)": _NOISE},
    "docs/results.md": {"rounds=20": _NOISE},
}
PRELUDES: dict[str, str] = {  # page -> Python that it leaves out
    "docs/plugins.md": (
        "from typing import Annotated, Any\nimport torch\nfrom pydantic import Field\nfrom torch import Tensor\n"
        "from autoflip_secure.interfaces import *\n"
    ),
    "docs/personal.md": (
        "from typing import ClassVar\nfrom autoflip_secure.interfaces import *\n"
        "from autoflip_secure.pruning.lottery import without_smallest\n"
    ),
}
APART = {  # page -> keys of a block that do not go with all the alternatives beside them
    "docs/privacy.md": ("sampling",),
}
EXITS = {  # command, or one on a page -> its exit codes, where they are not 0
    "audit": (0, 2),  # of short runs, that may not be able to tell
    "docs/export.md: autoflip-secure export runs/my": (2,),  # which cell? It lists them
    "docs/tutorials/ci_gate.md: autoflip-secure gate runs/harmful --baseline baseline.json": (1,),
}
INPUTS = ("report", "budget", "export", "gate", "leaderboard")  # commands whose DIR is read


@dataclass(frozen=True)
class NotRun:
    """A line of the table of what no test runs."""

    page: str  # * for all
    what: str  # a command, or the first line of a block; * for any characters
    why: str


def exceptions() -> list[NotRun]:
    """The table, as it stands on its page."""
    rows = re.findall(r"^\| `([^`]+)` \| `{1,2} ?(.+?) ?`{1,2} \| (.+?) \|$", documented.text_of(NOT_RUN), re.MULTILINE)
    return [NotRun(*row) for row in rows]


def excepted(page: str, what: str) -> bool:
    """Whether the table says that no test runs this."""
    return any(meant(one, page, what) for one in exceptions())


def meant(one: NotRun, page: str, what: str) -> bool:
    """Whether a line of the table is about this."""
    form = ".*".join(map(re.escape, one.what.split("*")))
    return fnmatch(page, one.page) and re.fullmatch(form, what, re.DOTALL) is not None


def shortening(scenario: str) -> tuple[str, ...]:
    """Settings that make a scenario short: a file, or a preset by name."""
    preset = scenario in presets()
    alone = tuple("seeds=[10]" if one.startswith("seeds") else one for one in (*SHORT, "tune=null"))
    return SMALLER.get(scenario, alone if preset else SHORT)


def own_model(folder: Path) -> None:
    """A reader's arrays and network."""
    digits = load_digits()
    x, y = (digits.images / 16).astype(np.float32), digits.target
    np.savez(folder / "robustness.npz", x_train=x[:600], y_train=y[:600], x_test=x[600:900], y_test=y[600:900])
    (folder / "my_models").mkdir(exist_ok=True)
    (folder / "my_models" / "small.py").write_text(NET, encoding="utf-8")


def own_functions(folder: Path) -> None:
    """What docs/data.md shows as forms with blanks."""
    (folder / "mydata.py").write_text(DATA, encoding="utf-8")
    (folder / "mynets.py").write_text("from torch import nn\n\n" + python("docs/data.md")[-1], encoding="utf-8")


def own_plugins(folder: Path) -> None:
    """The attack of the README, the rules of docs/plugins.md in a module, and the package of examples/plugin."""
    page = "docs/plugins.md"
    (folder / "my_attacks.py").write_text(python("README.md")[-1], encoding="utf-8")
    (folder / "my_rules.py").write_text("\n\n".join([PRELUDES[page], *python(page)]), encoding="utf-8")
    if not (folder / "autoflip_example").exists():
        installed.example(folder)


PREPARED: dict[str, Callable[[Path], None]] = {  # page -> what is in its reader's folder before
    "docs/ci.md": own_model,
    "docs/data.md": own_functions,
    "docs/plugins.md": own_plugins,
}


def python(page: str) -> list[str]:
    """Blocks of Python."""
    return [block.text for block in documented.blocks(page) if block.language == "python"]
