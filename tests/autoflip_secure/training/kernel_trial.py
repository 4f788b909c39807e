"""For other processes: prints what may be promised for models and ways of training, under the kernels asked for."""

import json
import sys

import torch
from test_bits import MODELS, problem

from autoflip_secure.interfaces import PrivateSteps, TrainingSchedule
from autoflip_secure.runtime import kernels
from autoflip_secure.training import StackedTrainer, promised_bits

if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {}
    for tried in sys.argv[1:]:
        name, way = tried.split(", ")
        module, layout, x, jobs = problem(MODELS[name], [16])
        found[tried] = promised_bits(
            StackedTrainer(), module, layout, x, jobs[0].start, TrainingSchedule(batch_size=10), models=40,
            private=PrivateSteps(1.0, 1.0) if way == "private" else None,
        )  # fmt: skip
    print(json.dumps({"kernels": kernels.description(), "bits": found}))
