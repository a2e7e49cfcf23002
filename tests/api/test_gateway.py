"""The federation's gateway as it is: one of several nodes, one prompt, one answer within 60 s."""

import asyncio

import aiohttp


async def ask(session, nodes, prompt):
    """Tries the nodes in turn, as the gateway does."""
    error = None
    for node in nodes:
        try:
            async with session.post(f"{node}/generate", json={"prompt": prompt, "max_tokens": 256}) as response:
                response.raise_for_status()
                return await response.json()
        except aiohttp.ClientError as failed:
            error = failed
    raise error


def run(work):
    async def main():
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            return await work(session)

    return asyncio.run(main())


def check(answer, model):
    assert answer["status"] == "success" and isinstance(answer["text"], str)
    stats = answer["stats"]
    assert stats["model"] == model and stats["device"] in ("cpu", "gpu")
    assert stats["tokens_processed"] == stats["important_tokens"] + stats["unimportant_tokens"]
    assert stats["tokens_generated"] <= 256 and stats["elapsed_seconds"] > 0
    assert stats["tokens_per_second"] >= 0 and stats["fallbacks"] <= stats["important_tokens"]
    assert stats["cache_hits"] >= 0


def test_one_prompt(url, model):
    check(run(lambda session: ask(session, [url], "Once upon a time")), model)


def test_a_dead_node_is_passed_over(url, model):
    check(run(lambda session: ask(session, ["http://127.0.0.1:1", url], "Once upon a time")), model)


def test_many_at_once(url, model):
    async def work(session):
        return await asyncio.gather(*(ask(session, [url], f"Story {i}:") for i in range(16)))

    for answer in run(work):
        check(answer, model)


def test_health(url, model):
    async def work(session):
        async with session.get(f"{url}/health") as response:
            return await response.json()

    health = run(work)
    assert (health["status"], health["model"], health["mlx_available"]) == ("healthy", model, True)
