"""Spoilt JSON bodies for every route that takes one.

    venv/bin/python fuzz.py http://127.0.0.1:8090 --minutes 10 --seed 1

Bodies that are right are changed in their structure (fields left out, doubled, of other types, with extreme values) and
in their bytes. Every one must have an answer, or a refusal in the one shape that refusals have: never a status of 500 or
more, never silence. Body N of a seed is the same in every run; the first that fails is printed and ends the run."""

import argparse
import asyncio
import collections
import json
import random
import time

import aiohttp

import load

# Answers tell nothing more when they are long.
MOST_TOKENS = 4
PATIENCE = 60

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"enum": ["x", 1, None]}, "maxItems": 2}, "b": {"$ref": "#/$defs/b"}},
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"b": {"anyOf": [{"type": "string", "pattern": "^[a-c]{1,3}$"}, {"type": "number", "minimum": 0}]}},
}

SHARED = {
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.01,
    "repetition_penalty": 1.1,
    "seed": 7,
    "stop": ["\n\n", "END"],
    "policy": {"kind": "mobile", "gamma": 0.8, "fallback": True, "prefetch": True, "renormalize": False},
    "stream": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA, "strict": True}},
}
OPENAI = {"n": 2, "stream_options": {"include_usage": True}, "mobile": True, "user": "u", "logit_bias": {}}


def bodies(model):
    """A body with every field, for each route."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Once upon a time"}]},
        {"role": "assistant", "content": "there was"},
        {"role": "user", "content": "go on"},
    ]
    return {
        "/generate": SHARED | {"prompt": "Once upon a time", "max_tokens": 3, "model": model, "raw": False, "gamma": 0.5},
        "/v1/chat/completions": SHARED
        | OPENAI
        | {"model": model, "messages": messages, "max_completion_tokens": 3, "logprobs": True, "top_logprobs": 2},
        "/v1/completions": SHARED | OPENAI | {"model": model, "prompt": ["Once", "upon"], "max_tokens": 3, "logprobs": 2},
    }


EXTREMES = [
    None, True, False, 0, -1, 1, 2, 16, 17, 63, 64, 65, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30,
    -(2**63), 0.0, -0.0, 0.5, 1.0, 1e-45, 1e38, 1e308, float("nan"), float("inf"), -float("inf"), "", " ", "\0", "a",
    "\ud800", "\U0001f98a" * 7, "a\u0301\u202e\ufeff", "<|endoftext|>", "<|user|>", "{{ 7 * 7 }}", "../../etc/passwd",
    "x" * 300, "y " * 5000, [], {}, [[]], [None], [0], [2**32], [[1, 2], [3]], {"": None}, {"type": "text"}, ["a"] * 20,
    {"type": "json_object"}, {"kind": "mass", "share": 0.5}, {"kind": "full"}, {"$ref": "#"}, {"type": ["string", 7]},
]  # fmt: skip
LETTERS = b'{}[]",:0123456789.eE+-\\/ \n\t\r\x00\x7f\x80\xc3\xed\xff truefalsn'


def places(value, at=()):
    """The path of every value in a JSON value."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def spoil_value(rng, body):
    """One change of the structure."""
    *above, last = rng.choice([place for place in places(body) if place])
    parent = body
    for key in above:
        parent = parent[key]
    change = rng.randrange(7)
    if change == 0:
        del parent[last]
    elif change == 1 and isinstance(parent, dict):
        parent[rng.choice(["x", "", "tools", "best_of", "echo", "n", "prompt", "messages", "stream"])] = parent[last]
    elif change == 2:
        parent[last] = [parent[last]] * rng.choice([1, 2, 17, 300])
    elif change == 3:
        for _ in range(rng.choice([1, 60, 200])):
            parent[last] = {"a": parent[last]} if rng.random() < 0.5 else [parent[last]]
    elif change == 4 and isinstance(parent[last], str):
        at = rng.randrange(len(parent[last]) + 1)
        parent[last] = parent[last][:at] + rng.choice(["\0", "\ud800", "é", '"', "\\", "{%", "x" * 999]) + parent[last][at:]
    else:
        parent[last] = json.loads(json.dumps(rng.choice(EXTREMES)))


def spoil_bytes(rng, data):
    """One change of the bytes."""
    at, length = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 8, 64])
    part = bytes(rng.choice(LETTERS) for _ in range(length))
    return [
        data[:at],
        data[:at] + part + data[at:],
        data[:at] + part + data[at + length :],
        data[:at] + data[at + length :],
        data[:at] + data[at : at + length] * rng.choice([2, 50, 5000]) + data[at + length :],
        data[:at] + b"[" * rng.choice([10, 1000, 100_000]) + data[at:],
    ][rng.randrange(6)]


def shortened(data):
    """A body that asks for a long answer asks for a short one: it may be right."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if not isinstance(body, dict):
        return data
    limits = ("max_tokens", "max_completion_tokens")
    long = [name for name in limits if isinstance(body.get(name), (int, float)) and body[name] > MOST_TOKENS]
    unlimited = all(body.get(name) is None for name in limits)
    return json.dumps(body | dict.fromkeys(long or limits[:1], MOST_TOKENS)).encode() if long or unlimited else data


def made(seed, number, templates):
    """A route and a body."""
    rng = random.Random(f"{seed}-{number}")
    route = rng.choice(list(templates))
    body = json.loads(json.dumps(templates[route]))
    for name in rng.sample(list(body), rng.randrange(len(body))):
        if name not in ("prompt", "messages", "model", "max_tokens", "max_completion_tokens"):
            del body[name]
    body["stream"] = rng.random() < 0.3
    if not body["stream"] or rng.random() < 0.1:
        body.pop("stream_options", None)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        spoil_value(rng, body)
    data = json.dumps(body, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        data = spoil_bytes(rng, data) or b"{"
    return route, shortened(data)


async def sent(http, url, route, data):
    """The status, and what is wrong with the answer."""
    headers = {"content-type": "application/json"}
    async with http.post(url + route, data=data, headers=headers) as response:
        text = await response.text(errors="replace")
        if response.status >= 500:
            return response.status, text
        if response.status >= 400:
            error = json.loads(text)["error"]
            right = isinstance(error["message"], str) and error["code"] and error["type"]
            return response.status, None if right else text
        if response.content_type != "text/event-stream":
            json.loads(text)
            return response.status, None
        whole = "data: [DONE]" in text and "internal_error" not in text
        return response.status, None if whole else text


async def run(url, seed, seconds=None, count=None, at_once=8):
    """Sends bodies for so long, or so many; gives how many had which status on which route."""
    async with load.session(PATIENCE) as http:
        async with http.get(f"{url}/v1/models") as response:
            templates = bodies((await response.json())["data"][0]["id"])
        statuses = collections.Counter()
        until = time.monotonic() + seconds if seconds else None
        numbers = iter(range(count) if count else range(1 << 60))

        async def one(number):
            route, data = made(seed, number, templates)
            case = f"body {number} of seed {seed} to {route}: {data[:2000]!r}"
            try:
                status, wrong = await sent(http, url, route, data)
            except (aiohttp.ClientError, asyncio.TimeoutError, ValueError, KeyError, TypeError) as error:
                raise AssertionError(f"{case}: {error!r}") from error
            assert wrong is None, f"{case}: {status} {wrong[:2000]}"
            statuses[route, status] += 1

        async def some():
            for number in numbers:
                if until and time.monotonic() > until:
                    return
                await one(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(some())
        async with http.get(f"{url}/health") as response:
            health = await response.json()
        assert (response.status, health["status"]) == (200, "healthy"), health
    return statuses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    statuses = asyncio.run(run(args.url.rstrip("/"), args.seed, seconds=args.minutes * 60))
    print(f"{statuses.total()} bodies of seed {args.seed}, none with a status of 500 or more")
    for (route, status), number in sorted(statuses.items()):
        print(f"{route} {status}: {number}")


if __name__ == "__main__":
    main()
