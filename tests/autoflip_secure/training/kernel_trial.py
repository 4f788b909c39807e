"""For other processes: prints, for some models, what may be promised under the kernels that are asked for."""

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
    for name in sys.argv[1:]:
        make = MODELS[name]
        module, layout, x, jobs = problem(make, [16])
        for private in (None, PrivateSteps(1.0, 1.0)):
            way = "plain" if private is None else "private"
            schedule = TrainingSchedule(batch_size=10)
            found[f"{name}, {way}"] = promised_bits(
                StackedTrainer(), module, layout, x, jobs[0].start, schedule, models=40, private=private
            )
    print(json.dumps({"kernels": kernels.description(), "bits": found}))
