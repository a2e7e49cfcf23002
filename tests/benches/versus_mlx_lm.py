"""Times `mobile` against mlx-lm on one checkpoint, cell by cell: a table on standard output, and all figures as JSON.

    python versus_mlx_lm.py MODEL --mobile ../../target/release/mobile --output result.json

The Python that runs this has what ../fixtures/requirements.txt names. Each cell is a process of either side, which loads the
model and makes one run that is not counted; the sides take turns, --rounds times, so that a machine that slows down
meanwhile slows down both. A cell's figure is the median over the rounds of the medians over the runs, its spread goes from
the worst run to the best. The ratio is above 1 where `mobile` is better, in time and memory too.

On a CPU, mlx-lm computes in float32, as `mobile` does there; --dtype stored leaves it the checkpoint's. On a GPU both take
what is stored, and bfloat16 beside quantized weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

Json = dict[str, Any]
HERE = Path(__file__).parent
SIDES = ("mobile", "mlx_lm")


@dataclass(frozen=True)
class Cell:
    """What one process of each side measures."""

    batch: int
    prompt_tokens: tuple[int, ...]
    tokens: int

    def figures(self, report: Json) -> Iterator[tuple[str, Json]]:
        """The named figures in the report of a side, each a median, a minimum and a maximum."""
        if self.tokens > 1:
            decode = report["rows"][0]["decode_tokens_per_second"]
            yield f"decode, {self.batch} at a time (tok/s)", decode
        else:
            for row in report["rows"]:
                yield f"prefill, {row['prompt_tokens']} tokens (tok/s)", row["prefill_tokens_per_second"]
                yield f"first token after {row['prompt_tokens']} (s)", row["first_token_seconds"]
        what = f"{self.batch} at a time" if self.tokens > 1 else f"prompts to {max(self.prompt_tokens)}"
        for name, field in [("MLX's peak", "peak_memory_bytes"), ("process's peak", "resident_bytes")]:
            yield f"{name}, {what} (MB)", single(report[field] / 1e6)
        yield "load (s)", single(report["load_seconds"])


def single(value: float) -> Json:
    return {"median": value, "min": value, "max": value}


def command(side: str, cell: Cell, args: argparse.Namespace) -> list[str]:
    common = [
        "--prompt-tokens", ",".join(map(str, cell.prompt_tokens)), "--tokens", str(cell.tokens),
        "--runs", str(args.runs), "--batch", str(cell.batch), "--text", str(args.text),
    ]  # fmt: skip
    if side == "mobile":
        return [str(args.mobile), "bench", "--model", str(args.model), "--only", "full", "--json", *common]
    return [sys.executable, str(HERE / "bench_mlx_lm.py"), str(args.model), "--dtype", args.dtype, *common]


def measure(command: list[str]) -> Json:
    """Runs a side; its report, with the most memory that the process had."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout and child.stderr
    output, errors = child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors}")
    unit = 1 if sys.platform == "darwin" else 1024
    return json.loads(output) | {"resident_bytes": usage.ru_maxrss * unit}


def compare(args: argparse.Namespace) -> Iterator[tuple[Json, Json]]:
    """After each cell, the figures by name and side of all that are measured, and the last report of either side."""
    cells = [Cell(batch, (args.decode_after,), args.tokens) for batch in args.sequences]
    cells.append(Cell(1, tuple(args.prompts), 1))
    found: dict[str, dict[str, list[Json]]] = {}
    reports: Json = {}
    for round_number in range(args.rounds):
        for cell in cells:
            for side in SIDES if round_number % 2 == 0 else reversed(SIDES):
                print(f"round {round_number + 1}: {side}, {cell}", file=sys.stderr)
                reports[side] = measure(command(side, cell, args))
                for name, figure in cell.figures(reports[side]):
                    found.setdefault(name, {s: [] for s in SIDES})[side].append(figure)
            yield {name: joined(name, sides) for name, sides in found.items()}, reports


def joined(name: str, sides: dict[str, list[Json]]) -> Json:
    """The figures of the rounds as one, and the ratio."""
    out: Json = {
        side: {
            "median": median(f["median"] for f in figures),
            "min": min(f["min"] for f in figures),
            "max": max(f["max"] for f in figures),
        }
        for side, figures in sides.items()
    }
    mobile, mlx_lm = (out[side]["median"] for side in SIDES)
    return out | {"ratio": mobile / mlx_lm if "tok/s" in name else mlx_lm / mobile}


def table(cells: Json) -> str:
    def shown(figure: Json) -> str:
        digits = 1 if figure["median"] >= 10 else 3
        low, middle, high = (f"{figure[key]:.{digits}f}" for key in ("min", "median", "max"))
        return middle if low == high else f"{middle} ({low} to {high})"

    lines = ["| | mobile | mlx-lm | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {shown(c['mobile'])} | {shown(c['mlx_lm'])} | {c['ratio']:.2f} |"
        for name, c in cells.items()
    ]
    return "\n".join(lines)


def machine() -> Json:
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        gpus = []
    return {"system": platform.platform(), "cpu": cpu, "cores": os.cpu_count(), "gpus": gpus}


def numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description="Times mobile against mlx-lm.")
    parser.add_argument("model", type=Path, help="folder of a checkpoint")
    parser.add_argument("--mobile", type=Path, required=True, help="the program")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--sequences", type=numbers, default=[1, 4, 16, 32], help="decoded together")
    parser.add_argument("--prompts", type=numbers, default=[128, 512, 2048], help="tokens of the prompts that are read")
    parser.add_argument("--decode-after", type=int, default=128, help="tokens of the prompt before decoding")
    parser.add_argument("--tokens", type=int, default=64, help="tokens decoded")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", choices=["stored", "float32"], help="mlx-lm's; float32 on a CPU by default")
    parser.add_argument("--text", type=Path, default=HERE.parents[1] / "src-tauri/crates/host/src/calibration/text.txt")
    args = parser.parse_args()
    if args.dtype is None:
        import mlx.core as mx

        args.dtype = "float32" if mx.default_device().type == mx.DeviceType.cpu else "stored"
    version = subprocess.run([args.mobile, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    about = {"date": datetime.now(timezone.utc).date().isoformat(), "machine": machine()}
    cells: Json = {}
    for cells, reports in compare(args):
        # What is measured is kept, should a later cell fail or be stopped.
        if args.output:
            args.output.write_text(json.dumps(about | described(args, version, cells, reports), indent=1) + "\n")
    print(table(cells))


def described(args: argparse.Namespace, version: str, cells: Json, reports: Json) -> Json:
    mobile, mlx_lm = (reports[side] for side in SIDES)
    return {
        "versions": {
            "mobile": version, "mlx_lm": mlx_lm["mlx_lm"], "mlx": mlx_lm["mlx"], "python": platform.python_version(),
        },
        "model": mobile["model"],
        "mlx_lm_dtypes": mlx_lm["parameter_dtypes"],
        "tokens": args.tokens, "runs": args.runs, "rounds": args.rounds, "cells": cells,
    }  # fmt: skip


if __name__ == "__main__":
    main()
