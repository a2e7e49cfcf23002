"""The fuzz at a size for every run; `fuzz.py` goes on for as long as one likes."""

import asyncio
import os
import pathlib

import pytest

import fuzz


@pytest.mark.timeout(180)
def test_spoilt_bodies_are_answered_or_refused(url):
    statuses = asyncio.run(fuzz.run(url, seed=0, count=400))
    seen = {status for _, status in statuses}
    assert {200, 400} <= seen <= {200, 400, 404, 413}, statuses
    log = os.environ.get("MOBILE_LOG")
    if log:
        assert "panic" not in pathlib.Path(log).read_text()
