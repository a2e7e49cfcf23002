"""A running service, named by MOBILE_URL."""

import json
import os
import urllib.request

import openai
import pytest


@pytest.fixture(scope="session")
def url():
    url = os.environ.get("MOBILE_URL")
    if not url:
        pytest.skip("MOBILE_URL names no service")
    return url.rstrip("/")


@pytest.fixture(scope="session")
def model(url):
    with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as response:
        return json.load(response)["data"][0]["id"]


@pytest.fixture(scope="session")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="not asked of loopback", max_retries=0, timeout=30)
