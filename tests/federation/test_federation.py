"""One of two nodes is killed in the middle of 200 requests and comes back: nothing is lost."""

import asyncio
import collections
import itertools
import time

import aiohttp

from conftest import KEY

REQUESTS = 200
CLIENTS = 4
PROMPTS = ["What is the capital of France?", "List five fruits.", "Once upon a time", "Tell me about the sea."]


async def in_the_middle(nodes, answers, began):
    """Kills the second node after 60 answers and starts it again after 120; says when."""
    while len(answers) < 60:
        await asyncio.sleep(0.01)
    nodes[1].kill()
    killed = time.monotonic() - began
    while len(answers) < 120:
        await asyncio.sleep(0.01)
    nodes[1].start()
    await asyncio.to_thread(nodes[1].ready)
    return killed, time.monotonic() - began


async def two_hundred(ask, nodes):
    """Answers as (prompt, text, node, when it was asked); and when the node went and came."""
    answers, began, numbers = [], time.monotonic(), itertools.count()

    async def client():
        # Once the 200 are through it goes on until the node is back and has had time to be noticed.
        while (number := next(numbers)) < REQUESTS or not (events.done() and time.monotonic() > noticed()):
            asked = time.monotonic() - began
            prompt = PROMPTS[number % len(PROMPTS)]
            text, node = await ask(prompt)
            answers.append((prompt, text, node, asked))

    def noticed():
        return began + events.result()[1] + 12

    events = asyncio.create_task(in_the_middle(nodes, answers, began))
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answers, *(await events)


def check(answers, killed, back, first, second):
    """Every answer is the one that a lone request gets; the load shifted and returned."""
    texts = collections.defaultdict(set)
    for prompt, text, _, _ in answers:
        texts[prompt].add(text)
    assert len(answers) >= REQUESTS
    assert {len(said) for said in texts.values()} == {1} and "Paris" in texts[PROMPTS[0]].pop()
    before = collections.Counter(node for _, _, node, asked in answers if asked < killed)
    between = collections.Counter(node for _, _, node, asked in answers if killed < asked < back - 1)
    after = collections.Counter(node for _, _, node, asked in answers if asked > back)
    shares = f"{len(answers)} answers; before {dict(before)}, while one is away {dict(between)}, after {dict(after)}"
    print(shares)
    assert before[first] and before[second], shares
    assert between[first] and not between[second], shares
    assert after[first] and after[second], shares


def session():
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))


def test_behind_litellm(nodes, proxy):
    async def main():
        async with session() as http:

            async def ask(prompt):
                body = {"model": "mobile", "messages": [{"role": "user", "content": prompt}], "temperature": 0}
                headers = {"Authorization": f"Bearer {KEY}"}
                url = f"{proxy}/v1/chat/completions"
                async with http.post(url, json=body | {"max_tokens": 8}, headers=headers) as response:
                    assert response.status == 200, await response.text()
                    answer = await response.json()
                    return answer["choices"][0]["message"]["content"], response.headers["x-litellm-model-id"]

            return await two_hundred(ask, nodes)

    check(*asyncio.run(main()), "node-1", "node-2")


def test_behind_the_federations_gateway(nodes):
    """The gateway's own way: the nodes in turn, the next one when one fails."""

    async def main():
        turn = itertools.cycle(range(len(nodes)))
        async with session() as http:

            async def ask(prompt):
                start = next(turn)
                for node in nodes[start:] + nodes[:start]:
                    try:
                        body = {"prompt": prompt, "max_tokens": 8}
                        async with http.post(f"{node.url}/generate", json=body) as response:
                            response.raise_for_status()
                            answer = await response.json()
                            assert answer["status"] == "success"
                            return answer["text"], node.url
                    except aiohttp.ClientError:
                        continue
                raise AssertionError("no node answered")

            return await two_hundred(ask, nodes)

    check(*asyncio.run(main()), nodes[0].url, nodes[1].url)
