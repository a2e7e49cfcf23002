"""Streamed experts side by side: `mobile bench` at several budgets and shares of fallbacks, past the page cache unless
--page-cache is given.

    mobile convert --streamed SHAPE ARRANGED
    python stream.py ARRANGED --mobile ../../target/release/mobile
    python stream.py ARRANGED --read-rate 2e8     # as from a disk that gives 200 MB/s; Linux, as root

A line is one policy at one budget. `promised` is 1 / (0.5 + 0.5 f) with the share f of fallbacks that was reached: what
MoBiLE gains where waiting for experts is all of the time. Begins with the same model all resident."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import limits

Json = dict[str, Any]


def bench(args: argparse.Namespace, memory: str, *more: str) -> list[Json]:
    command = [args.mobile, "bench", "--json", "--model", args.model, "--expert-memory", memory]
    command += [] if args.page_cache else ["--no-page-cache"]
    command += ["--prompt-tokens", str(args.prompt_tokens), "--tokens", str(args.tokens), "--runs", str(args.runs), *more]
    held = args.read_rate and memory != "all"
    with limits.group(read_rate=int(args.read_rate) if held else None, disk=args.model) as folders:
        prepare = (lambda: limits.join(folders)) if held else None
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, preexec_fn=prepare).stdout
    return json.loads(output)["rows"]


def show(budget: str, rows: list[Json], full: float, look_ahead: bool = False) -> None:
    for row in rows:
        kind, speed, f = row["policy"]["kind"], row["decode_tokens_per_second"]["median"], row["fallback_rate"]
        without = ", no prefetch" if kind == "mobile" and not row["policy"]["prefetch"] and budget != "all" else ""
        cells = [budget, kind + without + (", look-ahead" if look_ahead else "")]
        cells += [f"{f:.0%}" if kind == "mobile" else "", f"{speed:.2f}", f"{speed / full:.2f} ×"]
        cells.append(f"{1 / (0.5 + 0.5 * f):.2f} ×" if kind == "mobile" else "")
        if streamed := row.get("streamed"):
            cells.append(f"{streamed['hit_rate']:.0%}")
            cells.append(f"{streamed['bytes_read_per_token'] / 1e6:.1f}")
            cells.append(f"{streamed['wait_share']:.0%}")
        else:
            cells += ["", "", ""]
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an arranged checkpoint")
    parser.add_argument("--mobile", type=Path, default=Path(__file__).parents[2] / "target/release/mobile")
    parser.add_argument("--budgets", default="50%,25%,12.5%")
    parser.add_argument("--rates", default="0.1,0.2,0.3")
    parser.add_argument("--gammas", help="the thresholds that an earlier run found; leaves the resident model out")
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--read-rate", type=float, help="bytes a second that the disk may give")
    parser.add_argument("--page-cache", action="store_true", help="experts from main memory, for a GPU with its own")
    parser.add_argument("--look-ahead", action="store_true", help="also full, and mobile at the middle share, with it")
    args = parser.parse_args()
    print("| budget | policy | fallbacks | tok/s | to full | promised | hits | MB a token | waiting |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    gammas = args.gammas.split(",") if args.gammas else []
    if not gammas:
        # The thresholds are sought where that is fastest: streaming computes the same tokens, so they hold everywhere.
        resident = bench(args, "all", "--fallback-rate", args.rates, "--only", "full,mobile")
        fulls, mobiles = ([r for r in resident if r["policy"]["kind"] == kind] for kind in ("full", "mobile"))
        show("all", [fulls[0], *mobiles], speed(fulls[0]))
        gammas = [str(row["policy"]["gamma"]) for row in mobiles]
        print("thresholds:", ",".join(gammas), file=sys.stderr)
    for budget in args.budgets.split(","):
        rows = bench(args, budget, "--gamma", gammas[0], "--only", "full,mobile")
        full = speed(rows[0])
        for gamma in gammas[1:]:
            rows += bench(args, budget, "--gamma", gamma, "--only", "mobile")
        show(budget, rows, full)
        if args.look_ahead:
            middle = gammas[len(gammas) // 2]
            rows = bench(args, budget, "--gamma", middle, "--only", "full,mobile", "--look-ahead")
            show(budget, rows, full, look_ahead=True)


def speed(row: Json) -> float:
    return row["decode_tokens_per_second"]["median"]


if __name__ == "__main__":
    main()
