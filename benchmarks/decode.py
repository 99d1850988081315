"""Time the decoder beside argmax and rankseg on one large volume, all in this run.

Prints a Markdown table and draws benchmarks/out/decode.svg and .png. Every peer decodes the same array; the smallest
time of several is taken, peers interleaved, so that a noisy machine disturbs all alike. Extra memory is the growth of
the peak resident size while decoding, measured in a process of its own for each peer.

    python benchmarks/decode.py [--shape 3 64 512 512] [--threads 2] [--repeats 7]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0
DEFAULT_SHAPE = (3, 64, 512, 512)
OUT = Path(__file__).parent / "out"


def make_probs(shape):
    """Softmax of smooth noise: blobs of every class with uncertain borders, float32."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    coarse = torch.randn((1, shape[0], *(max(n // 8, 2) for n in shape[1:])), generator=generator)
    logits = torch.nn.functional.interpolate(coarse, size=shape[1:], mode="trilinear")[0] * 4
    logits += 0.5 * torch.randn(logits.shape, generator=generator)
    return logits.softmax(dim=0)


def peers():
    """Name to function of a (class, *spatial) tensor; quick ones first."""
    import torch
    from rankseg.functional import rankseg

    from rankseg_rma import RMADecoder

    return {
        "RankSEG-RMA, Dice": lambda probs: RMADecoder("dice")(probs).labels,
        "RankSEG-RMA, IoU": lambda probs: RMADecoder("iou")(probs).labels,
        "torch.max(dim=0).indices": lambda probs: torch.max(probs, dim=0).indices,
        "numpy.argmax(axis=0)": lambda probs: np.argmax(probs.numpy(), axis=0),
        "torch.argmax(dim=0)": lambda probs: torch.argmax(probs, dim=0),
        "rankseg 0.0.8, safe_screening=True": lambda probs: rankseg(probs[None], metric="dice", safe_screening=True)[0],
        "rankseg 0.0.8": lambda probs: rankseg(probs[None], metric="dice")[0],
    }


def measure_memory(shape, threads, name):
    """Growth of the peak resident size in bytes while one peer decodes, after it decoded a small array."""
    import torch

    torch.set_num_threads(threads)
    decode = peers()[name]
    decode(make_probs((shape[0], 8, 64, 64)))
    probs = make_probs(shape)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from the present size
    before = _status("VmRSS")
    decode(probs)
    return max(_status("VmHWM") - before, 0)


def _status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def measure_times(shape, threads, repeats):
    """Smallest seconds of each peer; those that take seconds are run twice."""
    import torch

    torch.set_num_threads(threads)
    probs = make_probs(shape)
    times = {name: [] for name in peers()}
    for turn in range(repeats + 1):
        for name, decode in peers().items():
            if turn > 2 and min(times[name]) > 1:
                continue
            started = time.perf_counter()
            decode(probs)
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - started)
    return {name: min(values) for name, values in times.items()}


def draw_speed(names: list[str], seconds: list[float], reads: str) -> Any:
    """Bars of decode times on a logarithmic axis."""
    from matplotlib.figure import Figure

    from rankseg_rma.report.palette import COLOURS

    figure = Figure(figsize=(6.4, 0.42 * len(names) + 1.1), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS["rma"] if name.startswith("RankSEG-RMA") else "0.72" for name in names]
    bars = axes.barh(names[::-1], seconds[::-1], color=colours[::-1])
    axes.bar_label(bars, [f"{value:.3g} s" for value in seconds[::-1]], padding=4, fontsize=9)
    axes.set(xscale="log", xlabel=reads, xlim=(min(seconds) / 2, max(seconds) * 4))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=DEFAULT_SHAPE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    shape = tuple(args.shape)
    if args.memory_of:
        print(json.dumps(measure_memory(shape, args.threads, args.memory_of)))
        return
    seconds = measure_times(shape, args.threads, args.repeats)
    size = 4 * int(np.prod(shape))
    ours, screened = seconds["RankSEG-RMA, Dice"], seconds["rankseg 0.0.8, safe_screening=True"]
    fastest = min(seconds[name] for name in seconds if "arg" in name or "max" in name)
    extras = {}
    print(f"{' x '.join(map(str, shape))} float32 ({size / 2**20:.0f} MiB), {args.threads} CPU threads, seed {SEED}\n")
    print("| decoder | seconds | times as long as RankSEG-RMA, Dice | extra peak memory, % of input |")
    print("|---|---|---|---|")
    for name, value in seconds.items():
        command = [
            sys.executable,
            __file__,
            "--threads",
            str(args.threads),
            "--memory-of",
            name,
            "--shape",
            *map(str, shape),
        ]
        extra = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print(f"| {name} | {value:.4f} | {value / ours:.1f} | {100 * extra / size:.0f} |", flush=True)
        extras[name] = extra / size
    print()
    missed = []
    for text, reached, fine in (
        ("times as fast as rankseg (at least 40)", seconds["rankseg 0.0.8"] / ours, lambda x: x >= 40),
        ("times as fast as rankseg with screening (at least 15)", screened / ours, lambda x: x >= 15),
        ("times as fast as the fastest argmax (at least 1)", fastest / ours, lambda x: x >= 1),
        ("of the input as extra memory (at most 0.25)", extras["RankSEG-RMA, Dice"], lambda x: x <= 0.25),
    ):
        print(f"{'' if fine(reached) else 'MISSED: '}{reached:.2f} {text}")
        missed += [] if fine(reached) else [text]
    OUT.mkdir(exist_ok=True)
    label = f"seconds for {' x '.join(map(str, shape))} float32, {args.threads} CPU threads"
    figure = draw_speed(list(seconds), list(seconds.values()), label)
    for suffix in ("svg", "png"):
        figure.savefig(OUT / f"decode.{suffix}", dpi=120)
        print(f"drawn: {OUT / f'decode.{suffix}'}")
    if missed and shape == DEFAULT_SHAPE:
        sys.exit(1)


if __name__ == "__main__":
    main()
