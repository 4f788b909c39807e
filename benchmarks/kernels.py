"""What bits that do not depend on the stack cost: `python benchmarks/kernels.py`, about two minutes on one core.

Every figure is a ratio of processor times measured in turns, the best turn of each: products of matrices in MKL's
modes, each in a process of its own, since MKL reads its mode once; and the training of stacks with convolutions in
calls of one shape against one grouped call of any height, also with oneDNN restricted to SSE4.1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PRODUCTS = [
    *((200, 16, 64, 64), (200, 64, 16, 64), (20, 16, 784, 200), (4, 16, 3136, 512), (4, 512, 16, 3136)),
    *((1, 128, 3136, 512), (27, 32, 144, 256)),
]  # models, rows, inner, columns
TURNS = 25


def best(programs: Mapping[str, Callable[[], object]], turns: int = TURNS) -> dict[str, float]:
    """Least processor seconds of each, taken in turns."""
    found = dict.fromkeys(programs, float("inf"))
    for _ in range(turns):
        for name, program in programs.items():
            began = time.process_time()
            program()
            found[name] = min(found[name], time.process_time() - began)
    return found


def products() -> dict[str, float]:
    """Seconds of ten batches of products of each shape."""
    import torch

    def ten(models: int, rows: int, inner: int, columns: int) -> Callable[[], object]:
        a, b = torch.randn(models, rows, inner), torch.randn(models, inner, columns)
        return lambda: [torch.bmm(a, b) for _ in range(10)]

    return best({" x ".join(map(str, shape)): ten(*shape) for shape in PRODUCTS})


def stacks() -> dict[str, float]:
    """Seconds of training a stack, with convolutions in calls of one shape and in one grouped call."""
    import torch

    from autoflip_secure.interfaces import ClientJob, TrainingSchedule
    from autoflip_secure.models.layout import Layout
    from autoflip_secure.scenarios.models.chains import Cnn
    from autoflip_secure.training import StackedTrainer, convolutions

    source = torch.Generator().manual_seed(0)

    def train(side: int, models: int, samples: int, *, grouped: bool) -> Callable[[], object]:
        net = Cnn().build(torch.zeros(2, 1, side, side), 10, 0)
        layout, x = Layout.of(net), torch.rand(500, 1, side, side, generator=source)
        rows = torch.arange(samples)
        jobs = [ClientJob(layout.vector(net), rows, rows % 10, 1, (1, k)) for k in range(models)]

        def run() -> None:
            before = convolutions.TOGETHER, convolutions.LARGE
            if grouped:
                convolutions.TOGETHER, convolutions.LARGE = max(models, 2), 10**12
            StackedTrainer().train(net, layout, x, jobs, TrainingSchedule(epochs=1))
            convolutions.TOGETHER, convolutions.LARGE = before

        return run

    programs = {}
    for side, models, samples in ((8, 20, 48), (8, 27, 48), (8, 1, 160), (28, 4, 16)):
        for grouped in (False, True):
            name = f"{side}x{side}, {models} models, {'grouped' if grouped else 'calls of one shape'}"
            programs[name] = train(side, models, samples, grouped=grouped)
    return best(programs)


def elsewhere(what: str, **environment: str) -> dict[str, float]:
    """``products`` or ``stacks`` in a process with other variables; an empty one is as good as none."""
    root = str(Path(__file__).parents[1])
    variables = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, __file__, what], env=variables, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    """The tables."""
    if sys.argv[1:]:
        print(json.dumps({"products": products, "stacks": stacks}[sys.argv[1]]()))
        return
    modes = {mode: elsewhere("products", MKL_CBWR=mode) for mode in ("", "AUTO", "COMPATIBLE")}
    print("products of matrices: time in a mode of MKL / without one")
    for shape, seconds in modes[""].items():
        ratios = ", ".join(f"{mode} {modes[mode][shape] / seconds:.2f}" for mode in ("AUTO", "COMPATIBLE"))
        print(f"  {shape}: {ratios}")
    here, restricted = elsewhere("stacks"), elsewhere("stacks", ONEDNN_MAX_CPU_ISA="SSE41")
    print("training of CNNs: time / that of one grouped call")
    for name, seconds in here.items():
        reference = here[name.replace("calls of one shape", "grouped")]
        print(f"  {name}: {seconds / reference:.2f}, restricted to SSE4.1 {restricted[name] / reference:.2f}")


if __name__ == "__main__":
    main()
