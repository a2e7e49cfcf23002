"""The load test at a size for every run; `load.py` has the whole of it."""

import asyncio
import os

import pytest

import load

pytestmark = pytest.mark.timeout(180)


def test_streams_together_say_what_they_say_alone(url):
    print(asyncio.run(load.streams(url, width=32, tokens=8)))


def test_rude_clients_hold_up_nobody(url):
    print(asyncio.run(load.rude(url, sockets=24)))


def test_a_crowd_is_answered_or_refused_and_leaves_no_memory_behind(url):
    pid = os.environ.get("MOBILE_PID")
    if not pid:
        pytest.skip("MOBILE_PID names no process")
    statuses, said = asyncio.run(load.memory(url, int(pid), clients=160, rounds=2))
    print(said)
    assert statuses[429] > 0, "more than the 32 that run and the 64 that wait"
