"""What the OpenAPI document promises, tried with made-up requests."""

import json
import os
import urllib.request

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

URL = os.environ.get("MOBILE_URL", "").rstrip("/")
EXAMPLES = int(os.environ.get("MOBILE_FUZZ", "40"))

if not URL:
    pytest.skip("MOBILE_URL names no service", allow_module_level=True)

with urllib.request.urlopen(f"{URL}/v1/models", timeout=10) as response:
    MODEL = json.load(response)["data"][0]["id"]

schema = schemathesis.openapi.from_url(f"{URL}/openapi.json")


LENGTHS = ("max_tokens", "max_completion_tokens")
ANSWERING = ("/v1/chat/completions", "/v1/completions", "/generate")


def reach_further(case):
    """Without the model's name no made-up request would come further than the first check, and long answers tell
    nothing more than short ones. One without a limit may go on for as long as the context, now and then."""
    body = case.body
    if isinstance(body, dict):
        if case.path in ANSWERING and not any(name in body for name in LENGTHS):
            body["max_tokens"] = 64
        if isinstance(body.get("model"), str):
            body["model"] = MODEL
        for name in LENGTHS:
            if isinstance(body.get(name), (int, float)) and 64 < body[name] <= 32768:
                body[name] = 64


@pytest.mark.timeout(300)
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_schema(case):
    reach_further(case)
    response = case.call(timeout=30)
    case.validate_response(response, excluded_checks=[positive_data_acceptance])
    # What a schema can say is said in the schema; what it cannot (two fields that exclude each other, the length in
    # tokens) may be refused by other codes than these.
    if case.meta.generation.mode is GenerationMode.POSITIVE and response.status_code == 400:
        code = response.json()["error"]["code"]
        assert code not in ("invalid_json", "invalid_type", "missing_required_parameter", "unknown_parameter"), (
            response.json(),
            case.body,
        )
