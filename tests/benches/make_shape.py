"""Writes a checkpoint with the shape of a well-known model and random weights, for measuring speed.

    python make_shape.py olmoe OUT --tokenizer TOKENIZER.json --layers 4
    python make_shape.py mixtral OUT --tokenizer TOKENIZER.json --layers 2 --bits 4

With --bits 4 or 8 the layout is mlx-lm's: experts stacked, weights packed into uint32, drawn packed so that nothing
is ever there in float. Without --bits it is the hub's: one bf16 tensor per expert. Either is written tensor by tensor
and needs no more memory than its largest one. Prints the weights that decoding a token reads, big and little.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

Json = dict[str, Any]
GROUP = 64
# Quantiles of the normal distribution: one at random is a normal number, several times as fast as drawing it.
NORMAL = np.array([NormalDist().inv_cdf((n + 0.5) / 2**16) for n in range(2**16)])


@dataclass(frozen=True)
class Shape:
    architecture: str
    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    experts: int
    top_k: int
    intermediate: int
    vocab: int
    context: int
    rope_theta: float
    shared: int = 0

    @property
    def block(self) -> str:
        return "block_sparse_moe" if self.model_type == "mixtral" else "mlp"


SHAPES = {
    "olmoe": Shape(
        "OlmoeForCausalLM", "olmoe", 2048, 16, 16, 16, 64, 8, 1024, 50304, 4096, 1e4
    ),
    "qwen": Shape(
        "Qwen2MoeForCausalLM", "qwen2_moe", 2048, 24, 16, 16, 60, 4, 1408, 151936, 8192, 1e6, 5632
    ),
    "mixtral": Shape(
        "MixtralForCausalLM", "mixtral", 4096, 32, 32, 8, 8, 2, 14336, 32000, 32768, 1e6
    ),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor that is made when it is written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[np.random.Generator], np.ndarray]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * {"U32": 4, "BF16": 2}[self.dtype]


def bf16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32, as uint16."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def constant(name: str, shape: tuple[int, ...], value: float) -> Tensor:
    return Tensor(name, "BF16", shape, lambda _: bf16(np.full(shape, value)))


def normal(name: str, shape: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """Normally distributed, so that outputs vary as inputs do, times `gain`."""
    table = bf16(NORMAL * (gain / math.sqrt(shape[-1])))
    return Tensor(name, "BF16", shape, lambda rng: table[rng.integers(0, table.size, shape, np.uint16)])


def packed(module: str, shape: tuple[int, ...], bits: int, gain: float) -> Iterator[Tensor]:
    """A quantized matrix: every packed word is as likely as any other, scales give the spread of `normal`."""
    *outer, inputs = shape
    words = (*outer, inputs * bits // 32)
    groups = (*outer, inputs // GROUP)
    # The standard deviation of an integer that is uniform below 2^bits.
    step = gain / math.sqrt(inputs) / math.sqrt((4**bits - 1) / 12)
    yield Tensor(
        f"{module}.weight", "U32", words, lambda rng: rng.integers(0, 2**32, words, np.uint32)
    )
    # Scales differ from group to group by up to a tenth, and biases keep the mean at zero.
    def scales(rng: np.random.Generator) -> np.ndarray:
        return bf16(step * rng.uniform(0.9, 1.1, groups))

    yield Tensor(f"{module}.scales", "BF16", groups, scales)
    yield constant(f"{module}.biases", groups, -step * (2**bits - 1) / 2)


def matrix(module: str, shape: tuple[int, ...], bits: int | None, gain: float = 1.0) -> Iterator[Tensor]:
    if bits:
        yield from packed(module, shape, bits, gain)
    else:
        yield normal(f"{module}.weight", shape, gain)


def mlp(module: str, hidden: int, inner: int, bits: int | None) -> Iterator[Tensor]:
    for name, shape in [("gate_proj", (inner, hidden)), ("up_proj", (inner, hidden)), ("down_proj", (hidden, inner))]:
        yield from matrix(f"{module}.{name}", shape, bits)


def experts(shape: Shape, module: str, bits: int | None) -> Iterator[Tensor]:
    inner, hidden, count = shape.intermediate, shape.hidden, shape.experts
    projections = [("gate_proj", "w1", inner, hidden), ("up_proj", "w3", inner, hidden), ("down_proj", "w2", hidden, inner)]
    for name, mixtral, rows, columns in projections:
        if bits:
            yield from packed(f"{module}.switch_mlp.{name}", (count, rows, columns), bits, 1.0)
            continue
        own = mixtral if shape.model_type == "mixtral" else name
        for expert in range(count):
            yield normal(f"{module}.experts.{expert}.{own}.weight", (rows, columns))


def layer(shape: Shape, prefix: str, bits: int | None) -> Iterator[Tensor]:
    hidden, head = shape.hidden, shape.hidden // shape.heads
    kv = shape.kv_heads * head
    for name in ["input_layernorm", "post_attention_layernorm"]:
        yield constant(f"{prefix}.{name}.weight", (hidden,), 1.0)
    for name, rows in [("q_proj", hidden), ("k_proj", kv), ("v_proj", kv), ("o_proj", hidden)]:
        yield from matrix(f"{prefix}.self_attn.{name}", (rows, hidden), bits)
        if shape.model_type == "qwen2_moe" and name != "o_proj":
            yield constant(f"{prefix}.self_attn.{name}.bias", (rows,), 0.0)
    if shape.model_type == "olmoe":
        yield constant(f"{prefix}.self_attn.q_norm.weight", (hidden,), 1.0)
        yield constant(f"{prefix}.self_attn.k_norm.weight", (kv,), 1.0)
    block = f"{prefix}.{shape.block}"
    # A router of gain 2 prefers some experts about as clearly as a trained one does.
    yield normal(f"{block}.gate.weight", (shape.experts, hidden), 2.0)
    yield from experts(shape, block, bits)
    if shape.shared:
        yield from mlp(f"{block}.shared_expert", hidden, shape.shared, bits)
        yield normal(f"{block}.shared_expert_gate.weight", (1, hidden))


def outside(shape: Shape, bits: int | None) -> Iterator[Tensor]:
    table = (shape.vocab, shape.hidden)
    # Inputs of unit size, as the layers' outputs are.
    yield from matrix("model.embed_tokens", table, bits, math.sqrt(shape.hidden))
    yield constant("model.norm.weight", (shape.hidden,), 1.0)
    # A head of gain 4 gives confidences between a hundredth and nearly one.
    yield from matrix("lm_head", table, bits, 4.0)


def write(path: Path, tensors: list[Tensor], rng: np.random.Generator) -> None:
    """safetensors: the header's length, the header, and the tensors one after the other."""
    header: Json = {"__metadata__": {"format": "mlx"}}
    end = 0
    for t in tensors:
        header[t.name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [end, end + t.bytes]}
        end += t.bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for t in tensors:
            values = t.make(rng)
            assert values.nbytes == t.bytes, t.name
            values.tofile(file)


def config(shape: Shape, layers: int, bits: int | None) -> Json:
    out: Json = {
        "architectures": [shape.architecture],
        "model_type": shape.model_type,
        "hidden_size": shape.hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_experts_per_tok": shape.top_k,
        "intermediate_size": shape.shared or shape.intermediate,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": 1e-6 if shape.model_type == "qwen2_moe" else 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": None,
        "eos_token_id": 0,
    }
    if shape.model_type == "mixtral":
        out |= {"num_local_experts": shape.experts, "sliding_window": None}
    else:
        out |= {"num_experts": shape.experts, "norm_topk_prob": False}
    if shape.model_type == "olmoe":
        out |= {"clip_qkv": None, "attention_bias": False}
    if shape.model_type == "qwen2_moe":
        out |= {
            "moe_intermediate_size": shape.intermediate,
            "shared_expert_intermediate_size": shape.shared,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "use_sliding_window": False,
        }
    if bits:
        out["quantization"] = {"group_size": GROUP, "bits": bits}
    return out


def read_per_token(shape: Shape, layers: list[list[Tensor]], others: list[Tensor], k: int) -> float:
    """Bytes: k of the experts, the rest of the layers, and the head; of the embeddings only a row."""
    total = sum(t.bytes for t in others if t.name.startswith("lm_head"))
    for t in (t for tensors in layers for t in tensors):
        routed = ".experts." in t.name or ".switch_mlp." in t.name
        total += t.bytes * (k / shape.experts if routed else 1)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a checkpoint with random weights.")
    parser.add_argument("family", choices=SHAPES)
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json to copy; its ids must fit")
    parser.add_argument("--layers", type=int, help="all by default")
    parser.add_argument("--vocab", type=int, help="words, so that the head weighs among few layers what it does among all")
    parser.add_argument("--bits", type=int, choices=[4, 8])
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    shape = SHAPES[args.family]
    if args.vocab:
        shape = replace(shape, vocab=args.vocab)
    count = args.layers or shape.layers
    layers = [list(layer(shape, f"model.layers.{n}", args.bits)) for n in range(count)]
    others = list(outside(shape, args.bits))
    args.out.mkdir(parents=True)
    rng = np.random.default_rng(args.seed)
    weight_map = {}
    for n, tensors in enumerate([others, *layers]):
        name = f"model-{n + 1:05}-of-{count + 1:05}.safetensors"
        write(args.out / name, tensors, rng)
        weight_map |= {t.name: name for t in tensors}
    total = sum(t.bytes for tensors in [others, *layers] for t in tensors)
    files: dict[str, Json] = {
        "model.safetensors.index.json": {"metadata": {"total_size": total}, "weight_map": weight_map},
        "config.json": config(shape, count, args.bits),
    }
    for name, content in files.items():
        (args.out / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    shutil.copy(args.tokenizer, args.out / "tokenizer.json")

    big, little = (read_per_token(shape, layers, others, k) for k in (shape.top_k, shape.top_k // 2))
    print(f"{args.out}: {total / 1e9:.2f} GB in {count} of {shape.layers} layers")
    print(f"read per token: big {big / 1e6:.1f} MB, little {little / 1e6:.1f} MB")
    print(f"best gain {big / little:.2f}x, break-even at {1 - little / big:.0%} fallbacks")
    for f in (0.0, 0.1, 0.2, 0.3, 0.5):
        print(f"  at {f:.0%} fallbacks {big / (little + f * big):.2f}x")


if __name__ == "__main__":
    main()
