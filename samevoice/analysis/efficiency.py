"""What a training step costs on this machine: time, parameters, memory; the LAP paper's Figure 2. Needs torch."""

import math
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samevoice.evaluation.report import svg

BASE_PLUS = tuple(f"wavlm_base_plus_{head}" for head in ("xvector", "ecapa_tdnn", "mhfa", "dbe", "lap_astp"))
VOXCELEB2_UTTERANCES, VOXCELEB2_SPEAKERS = 1_092_009, 5994


@dataclass(frozen=True)
class Setting:
    """What is trained on. The defaults are the LAP paper's joint fine-tuning, but for the batch (512 there).

    frozen: the front end stays as it is, as in the first stage. utterances: of an epoch. threads: None is torch's own
    choice. steps: how many are timed, after one that is not.
    """

    batch: int = 8
    seconds: float = 2.0
    steps: int = 3
    frozen: bool = False
    utterances: int = VOXCELEB2_UTTERANCES
    speakers: int = VOXCELEB2_SPEAKERS
    device: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True)
class Cost:
    """front_end_parameters: 0 for filter-bank networks. step_seconds: the median; fastest and slowest beside it.

    peak_mb: on CUDA, what torch allocated at most; else the whole process, Python and torch with it.
    """

    name: str
    front_end_parameters: int
    parameters: int
    step_seconds: float
    fastest: float
    slowest: float
    peak_mb: float
    epoch_hours: float

    @property
    def head_parameters(self) -> int:
        return self.parameters - self.front_end_parameters


def measure(names: Sequence[str], setting: Setting, **overrides: Any) -> Iterator[Cost]:
    """The cost of training each network, one after the other, each in a fresh process.

    overrides: configuration words given to every one. Raises ValueError for an unknown name or word, for heads, which
    are to be measured with their front end, for a device that isn't there and for want of memory.
    """
    from samevoice.models.registry import words

    for name in names:  # before the first is measured
        words(name)
    for name in names:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                yield process.submit(train_a_little, name, setting, overrides).result()
            except BrokenProcessPool:
                raise ValueError(f"{name}: its process was ended, most likely for want of memory") from None


def train_a_little(name: str, setting: Setting, overrides: dict[str, Any]) -> Cost:
    """Steps of forward, backward and Adam on noise, in this process.

    The loss is the papers' kind without a margin, which costs nothing: scaled cosines to three sub-centres of every
    speaker, the best of each three, cross-entropy.
    """
    import torch
    import torch.nn.functional as F

    from samevoice.models import create

    if setting.device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"there is no device {setting.device} here")
    if setting.threads:
        torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    network = create(name, **overrides).to(setting.device).train()
    front_end = getattr(network, "front_end", None)
    if setting.frozen and front_end is not None:
        front_end.freeze()
    x = _noise(network, setting)
    centres = torch.randn(3 * setting.speakers, network.embedding_dim, device=setting.device).requires_grad_()
    speakers = torch.randint(setting.speakers, (setting.batch,), device=setting.device)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam([*trained, centres], lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        cosines = F.normalize(network(x)) @ F.normalize(centres).T
        F.cross_entropy(30 * cosines.unflatten(1, (setting.speakers, 3)).amax(2), speakers).backward()
        optimizer.step()
        if setting.device != "cpu":
            torch.cuda.synchronize()

    times = [_seconds(step) for _ in range(setting.steps + 1)][1:]
    peak = _peak_mb() if setting.device == "cpu" else torch.cuda.max_memory_allocated() / 1e6
    median = statistics.median(times)
    return Cost(
        name,
        0 if front_end is None else _parameters(front_end),
        _parameters(network),
        median,
        min(times),
        max(times),
        peak,
        median * math.ceil(setting.utterances / setting.batch) / 3600,
    )


def draw(costs: Sequence[Cost], mean_eers: dict[str, float], title: str) -> str | None:
    """Figure 2 as SVG: hours of an epoch and mean EER in percent, marks as large as the head; None without EERs.

    Systems whose EER is not given are left out.
    """
    shown = [cost for cost in costs if cost.name in mean_eers]
    if not shown:
        return None
    hours = [cost.epoch_hours for cost in shown]
    eers = [mean_eers[cost.name] for cost in shown]
    series = [
        svg.Series(
            f"{cost.name} ({cost.head_parameters / 1e6:.1f}M)",
            [cost.epoch_hours],
            [mean_eers[cost.name]],
            "marks",
            [3 * math.sqrt(cost.head_parameters / 1e6)],
        )
        for cost in shown
    ]
    x = svg.linear_axis("hours of training for one epoch", 0, 1.1 * max(hours))
    y = svg.linear_axis("mean EER of Vox-O, -E, -H (%)", 0, 1.2 * max(eers))
    return svg.plot(title, x, y, series)


def machine(setting: Setting) -> str:
    """What was measured on, for the record."""
    import torch

    from samevoice.machine import processor

    if setting.device != "cpu":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    threads = setting.threads or torch.get_num_threads()
    return f"{processor()}, {threads} threads, torch {torch.__version__}"


def _noise(network: Any, setting: Setting):
    import torch

    if network.input_kind == "hidden":
        raise ValueError(f"{network.architecture} is a head without its front end; name a whole system")
    if network.input_kind == "waveform":
        shape = (setting.batch, round(16000 * setting.seconds))
    else:
        shape = (setting.batch, round(100 * setting.seconds), network.config["mels"])
    return 0.1 * torch.randn(shape, device=setting.device)


def _seconds(step: Any) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _peak_mb() -> float:
    """Linux's own record starts anew with a program; getrusage's begins with the parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM")), None)
        if line:
            return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
