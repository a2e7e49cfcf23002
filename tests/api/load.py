"""Many clients at once, some of them rude.

    venv/bin/python load.py http://127.0.0.1:8090 --pid PID

prints what it saw and fails when an answer is wrong, missing, or kept waiting by others. The service must have the
queue of 64 that it has by default."""

import argparse
import asyncio
import collections
import itertools
import json
import subprocess
import time
import urllib.parse

import aiohttp

MIB = 1 << 20
# What a process may keep beyond its level: an allocator does not give back everything.
MARGIN = 64 * MIB

# Beginnings unlike one another, so that answers cannot be mixed up unseen.
NOUNS = "fox ship king moon river baker dragon clock garden train letter storm island teacher piano wolf".split()


def body(prompt, tokens, **more):
    return {"prompt": prompt, "max_tokens": tokens, "policy": "full", "temperature": 0, **more}


def session(seconds=240):
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds), connector=connector)


async def whole(http, url, prompt, tokens):
    async with http.post(f"{url}/generate", json=body(prompt, tokens)) as response:
        return response.status, await response.json()


async def stream(http, url, prompt, tokens):
    """The text of a stream that ended as it should."""
    text = ""
    async with http.post(f"{url}/generate", json=body(prompt, tokens, stream=True)) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue  # between two events, or a sign of life
            data = line.removeprefix(b"data: ").strip()
            if data == b"[DONE]":
                return text
            text += json.loads(data)["text"]
    raise AssertionError("a stream ended without [DONE]")


async def streams(url, width=32, tokens=24):
    """Streams that run together say what each says alone."""
    nouns = itertools.islice(itertools.cycle(NOUNS), width)
    prompts = [f"{'The' if i < len(NOUNS) else 'What is a'} {noun}" for i, noun in enumerate(nouns)]
    async with session() as http:
        alone = [(await whole(http, url, prompt, tokens))[1]["text"] for prompt in prompts]
        began = time.monotonic()
        together = await asyncio.gather(*(stream(http, url, prompt, tokens) for prompt in prompts))
    wrong = [p for p, a, t in zip(prompts, alone, together) if a != t]
    assert not wrong, wrong
    assert len(set(alone)) > width // 2, "the prompts are too much alike to tell answers apart"
    return f"{width} streams as alone, in {time.monotonic() - began:.1f} s"


async def crowd(url, clients=500, tokens=16):
    """Every client gets an answer, or a refusal that says when to come again."""

    async def one(http, i):
        async with http.post(f"{url}/generate", json=body(f"Say {i % 8}.", tokens)) as response:
            answer = await response.json()
            if response.status == 200:
                assert answer["status"] == "success"
                return 200, (i % 8, answer["text"])
            assert response.status in (429, 503), (response.status, answer)
            assert int(response.headers["Retry-After"]) >= 1 and answer["error"]["code"], answer
            return response.status, None

    began = time.monotonic()
    async with session() as http:
        answers = await asyncio.gather(*(one(http, i) for i in range(clients)))
    statuses = collections.Counter(status for status, _ in answers)
    texts = {text for status, text in answers if status == 200}
    assert len(texts) <= 8, "the same prompt had different answers"
    assert sum(statuses.values()) == clients and statuses[200] > 0
    return statuses, f"{clients} clients: {dict(sorted(statuses.items()))}, in {time.monotonic() - began:.1f} s"


async def rude(url, sockets=40, tokens=8):
    """Clients that send half a request, or never read their answer, do not hold up others."""
    place = urllib.parse.urlsplit(url)
    async with session() as http:
        began = time.monotonic()
        await whole(http, url, "Hello.", tokens)
        alone = time.monotonic() - began
        long = json.dumps(body("Go on and on.", 200, stream=True)).encode()
        head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writers = []
        for i in range(sockets):
            _, writer = await asyncio.open_connection(place.hostname, place.port, limit=1)
            writer.transport.pause_reading()
            silent, headless, bodiless, deaf = b"", b"POST /gen", head % 100 + b"{", head % len(long) + long
            writer.write([silent, headless, bodiless, deaf][i % 4 if i < 16 else i % 3])
            writers.append(writer)
        began = time.monotonic()
        status, _ = await whole(http, url, "Hello.", tokens)
        beside = time.monotonic() - began
        for writer in writers:
            writer.close()
    assert status == 200
    # Four long streams run beside it by now; what must not happen is to wait for a client's time limit of 30 s.
    assert beside < 20, f"{beside:.1f} s"
    return f"an answer beside {sockets} rude clients in {beside:.2f} s, alone in {alone:.2f} s"


def resident(pid):
    """Bytes of memory a process holds."""
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) * 1024


async def idle(url):
    async with session() as http:
        while True:
            async with http.get(f"{url}/health") as response:
                queue = (await response.json())["queue"]
            if queue == {"running": 0, "waiting": 0}:
                return
            await asyncio.sleep(0.1)


async def memory(url, pid, clients=500, rounds=3):
    """Crowds leave no memory behind once one has shown how much it takes."""
    lines = []
    levels = []
    for _ in range(rounds):
        statuses, line = await crowd(url, clients)
        await idle(url)
        levels.append(resident(pid))
        lines.append(f"{line}; then {levels[-1] / MIB:.0f} MiB resident")
    assert levels[-1] < levels[0] + MARGIN, lines
    return statuses, "\n".join(lines)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True, help="process of the service")
    parser.add_argument("--clients", type=int, default=500)
    args = parser.parse_args()
    print(await streams(args.url))
    print(await rude(args.url))
    statuses, said = await memory(args.url, args.pid, args.clients)
    print(said)
    assert statuses[429] > 0 or args.clients <= 96, "the queue was never full"


if __name__ == "__main__":
    asyncio.run(main())
