"""Which expert should leave when another must come? LRU, LFU with ageing and the system's page cache, on what the router
of a trained model asks for.

    python replacement.py ../../src-tauri/resources/olmoe-tiny ../fixtures/qwen2moe-tiny --mobile ../../target/release/mobile

`mobile serve` answers prompts one after the other and logs which experts each pass wants of each layer. That trace is
played to each policy with the same memory:

- `lru`, `lfu`: as in `experts/slots.rs`, so many slots in every layer;
- `best`: the expert that is wanted latest leaves, which needs to know what comes: the bound for any policy;
- `page cache`: no memory of our own. A process that may have as much page cache reads every expert that is wanted, from
  files of --record bytes an expert; what the kernel had to fetch from the disk counts. Linux, as root.

Passes over prompts are played too, and not counted. Bytes are per token, in units of an expert's size."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import limits

WANTED = re.compile(r"wanted file=\S*experts-(\d+)\.bin experts=\[([\d, ]+)\]")
SUBJECTS = "a fox|the sea|an old clock|a lost letter|the capital of France|a dragon|snow in April|two brothers|a garden|numbers"
PROMPTS = [f"{start} {s}" for s in SUBJECTS.split("|") for start in ("Tell me a story about", "What do you know of", "Once there was")]
AGEING = 0.98


@dataclass
class Trace:
    """What was wanted: layer and experts, pass by pass."""

    model: str
    experts: int
    top_k: int
    layers: int
    wanted: list[tuple[int, list[int]]]

    def counts(self, experts: list[int]) -> bool:
        """Whether it is a pass over one token, rather than over a prompt."""
        return len(experts) <= self.top_k

    @property
    def tokens(self) -> int:
        return sum(self.counts(experts) for layer, experts in self.wanted) // self.layers


def record(model: Path, mobile: Path, policy: str, prompts: int, tokens: int) -> Trace:
    config = json.loads((model / "config.json").read_text())
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile("w+") as log:
        command: list[Any] = [mobile, "serve", "--port", "0", "--model", model, "--policy", policy, "--expert-memory", "50%"]
        command += ["--log-level", "mobile=info,mobile_service=info,mobile_engine::experts=trace"]
        with subprocess.Popen(command, stderr=log, env=os.environ | {"MOBILE_HOME": home}) as server:
            try:
                address = address_of(server, log)
                for seed, prompt in enumerate(PROMPTS[:prompts]):
                    body = {"model": model.name, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0.8, "seed": seed}
                    request = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
                    urllib.request.urlopen(request, timeout=600).read()
            finally:
                server.terminate()
        log.seek(0)
        found = [(int(m[1]), [int(e) for e in m[2].split(",")]) for m in WANTED.finditer(log.read())]
    layers = sorted({layer for layer, _ in found})
    count = config.get("num_local_experts") or config["num_experts"]
    wanted = [(layers.index(layer), experts) for layer, experts in found]
    return Trace(model.resolve().name, count, config["num_experts_per_tok"], len(layers), wanted)


def address_of(server: subprocess.Popen[bytes], log: Any) -> str:
    """Where it answers, once it does."""
    for _ in range(600):
        log.seek(0)
        found = re.search(r"listening address=(127\.0\.0\.1:\d+)", text := log.read())
        if found and b"healthy" in urllib.request.urlopen(f"http://{found[1]}/health", timeout=60).read():
            return f"http://{found[1]}"
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"mobile serve does not answer: {text[-2000:]}")


@dataclass
class Layer:
    """The slots of a layer under one policy."""

    slots: int
    policy: str
    here: set[int] = field(default_factory=set)
    uses: dict[int, tuple[int, float]] = field(default_factory=dict)
    passes: int = 0

    def worth(self, expert: int, following: dict[int, int]) -> float:
        last, count = self.uses.get(expert, (0, 0.0))
        return {"lru": last, "lfu": count * AGEING ** (self.passes - last), "best": -following.get(expert, sys.maxsize)}[self.policy]

    def want(self, experts: list[int], following: dict[int, int]) -> int:
        """Gives how many were not there."""
        self.passes += 1
        for expert in experts:
            last, count = self.uses.get(expert, (self.passes, 0.0))
            self.uses[expert] = (self.passes, count * AGEING ** (self.passes - last) + 1)
        missing = [expert for expert in experts if expert not in self.here]
        for expert in missing:
            if len(self.here) >= self.slots:
                # Those of this pass stay, as long as others can go.
                candidates = self.here - set(experts) or self.here
                self.here.remove(min(candidates, key=lambda e: self.worth(e, following)))
            self.here.add(expert)
        return len(missing)


def play(trace: Trace, share: float, policy: str) -> tuple[float, float]:
    """Hit rate, and experts read a token."""
    layers = [Layer(max(1, int(trace.experts * share + 1e-6)), policy) for _ in range(trace.layers)]
    later: list[list[dict[int, int]]] = [[] for _ in layers]
    if policy == "best":
        upcoming: list[dict[int, int]] = [{} for _ in layers]
        for at in range(len(trace.wanted) - 1, -1, -1):
            layer, experts = trace.wanted[at]
            later[layer].append(dict(upcoming[layer]))
            upcoming[layer].update(dict.fromkeys(experts, at))
    hits = misses = 0
    for layer, experts in trace.wanted:
        missed = layers[layer].want(experts, later[layer].pop() if later[layer] else {})
        if trace.counts(experts):
            misses += missed
            hits += len(experts) - missed
    return hits / (hits + misses), misses / trace.tokens


def page_cache(trace: Trace, share: float, size: int, folder: Path) -> tuple[float, float]:
    """The same of a process that leaves it to the system."""
    with tempfile.TemporaryDirectory(dir=folder) as work, limits.group() as folders:
        files = [Path(work) / str(layer) for layer in range(trace.layers)]
        for file in files:
            file.write_bytes(os.urandom(size * trace.experts))
        os.sync()
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            limits.join(folders)
            descriptors = [os.open(file, os.O_RDONLY) for file in files]
            for descriptor in descriptors:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            buffer = bytearray(size)
            own = int(re.search(r"(?:total_rss|anon) (\d+)", (folders[0] / "memory.stat").read_text())[1])
            limits.limit_memory(folders[0], own + int(share * size * trace.experts * trace.layers))
            counted = asked = 0
            for layer, experts in trace.wanted:
                before = fetched()
                for expert in experts:
                    os.preadv(descriptors[layer], [buffer], expert * size)
                if trace.counts(experts):
                    counted += fetched() - before
                    asked += len(experts)
            os.write(writer, json.dumps([1 - counted / size / asked, counted / size / trace.tokens]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        return tuple(json.loads(os.read(reader, 1000)))


def fetched() -> int:
    """Bytes this process has had fetched from a disk."""
    return int(re.search(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.M)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--mobile", type=Path, default=Path(__file__).parents[2] / "target/release/mobile")
    parser.add_argument("--policies", default="full,mobile", help="of decoding")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--budgets", default="0.5,0.25,0.125")
    parser.add_argument("--record", type=int, default=256 << 10, help="bytes of an expert in the page cache")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to read from")
    parser.add_argument("--no-page-cache", action="store_true")
    args = parser.parse_args()
    names = ["lru", "lfu", "best"] + ([] if args.no_page_cache else ["page cache"])
    print("| model, policy | tokens | budget | " + " | ".join(f"{n}: hits, experts read a token" for n in names) + " |")
    print("|---" * (3 + len(names)) + "|")
    for model in args.models:
        for policy in args.policies.split(","):
            trace = record(model, args.mobile.resolve(), policy, args.prompts, args.tokens)
            for budget in (float(b) for b in args.budgets.split(",")):
                played = [play(trace, budget, n) for n in names if n != "page cache"]
                if not args.no_page_cache:
                    played.append(page_cache(trace, budget, args.record, args.folder))
                cells = " | ".join(f"{hits:.1%}, {read:.2f}" for hits, read in played)
                print(f"| {trace.model}, {policy} | {trace.tokens} | {budget:.1%} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
