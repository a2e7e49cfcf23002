"""Writes an arranged checkpoint with more layers by repeating those of one, where a disk does not hold a model of the
whole depth twice, as made and as arranged.

    python make_shape.py mixtral SHAPE --bits 4 --layers 4 --tokenizer TOKENIZER.json
    mobile convert --streamed SHAPE ARRANGED
    python repeat_layers.py ARRANGED DEEP --layers 32

Speed and memory are those of a model with as many different layers: each has a file of its own. Needs nothing beyond
Python; the layouts are those of `experts/layout.rs` and of safetensors."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

ALIGN = 16 << 10
PIECE = 64 << 20


def repeat_experts(source: Path, target: Path, layer: int) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        fixed = old.read(16)
        header = json.loads(old.read(int.from_bytes(fixed[8:], "little")))
        header["layer"] = layer
        text = json.dumps(header, separators=(",", ":")).encode()
        front = fixed[:8] + len(text).to_bytes(8, "little") + text
        new.write(front + bytes(-len(front) % ALIGN))
        old.seek(-(-(16 + int.from_bytes(fixed[8:], "little")) // ALIGN) * ALIGN)
        while piece := old.read(PIECE):
            new.write(piece)


def repeat_tensors(source: Path, target: Path, have: int, layers: int) -> None:
    data = source.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    metadata = {"__metadata__": header.pop("__metadata__")} if "__metadata__" in header else {}
    parts, out, at = [], {}, 0
    for name, tensor in header.items():
        found = re.fullmatch(r"(model\.layers\.)(\d+)(\..*)", name)
        numbers = range(int(found[2]), layers, have) if found else [None]
        begin, stop = tensor["data_offsets"]
        for number in numbers:
            new = name if number is None else f"{found[1]}{number}{found[3]}"
            out[new] = {**tensor, "data_offsets": [at, at + stop - begin]}
            parts.append(data[end + begin : end + stop])
            at += stop - begin
    text = json.dumps(metadata | out).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--layers", type=int, required=True)
    args = parser.parse_args()
    args.target.mkdir()
    config = json.loads((args.source / "config.json").read_text())
    have = config["num_hidden_layers"]
    for path in sorted(args.source.iterdir()):
        target = args.target / path.name
        if path.suffix == ".safetensors":
            repeat_tensors(path, target, have, args.layers)
        elif path.suffix != ".bin":
            shutil.copyfile(path, target)
    for layer in range(args.layers):
        repeat_experts(args.source / f"experts-{layer % have:03}.bin", args.target / f"experts-{layer:03}.bin", layer)
    index = json.loads((args.source / "experts.json").read_text())
    (args.target / "experts.json").write_text(json.dumps(index | {"layers": list(range(args.layers))}))
    (args.target / "config.json").write_text(json.dumps(config | {"num_hidden_layers": args.layers}, indent=1))


if __name__ == "__main__":
    main()
