"""Answers that follow a schema, through the official client."""

import json
from typing import Literal

import jsonschema_rs
import openai
import pytest
from pydantic import BaseModel, Field

SAY = [{"role": "user", "content": "Tell me about a fox, as JSON."}]
POLICIES = [{"policy": "full"}, {"policy": "little"}, {"policy": "mobile", "gamma": 0.7}]

TALE = {
    "$defs": {"place": {"type": "string", "pattern": "^[a-z]{3,8}$"}},
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "age": {"type": "integer", "minimum": 1, "maximum": 30},
        "mood": {"enum": ["glad", "sad"]},
        "places": {"type": "array", "items": {"$ref": "#/$defs/place"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "mood", "places"],
    "additionalProperties": False,
}


class Home(BaseModel):
    town: str = Field(max_length=8)
    rooms: int = Field(ge=1, le=9)


class Fox(BaseModel):
    name: str = Field(max_length=8)
    colour: Literal["red", "grey"]
    wild: bool
    home: Home | None


def follow(schema):
    return {"type": "json_schema", "json_schema": {"name": "tale", "schema": schema, "strict": True}}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["policy"])
@pytest.mark.parametrize("temperature", [0, 1])
def test_create(client, model, policy, temperature):
    answer = client.chat.completions.create(
        model=model,
        messages=SAY,
        n=2,
        seed=7,
        temperature=temperature,
        max_tokens=300,
        response_format=follow(TALE),
        extra_body=policy,
    )
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema_rs.validate(TALE, json.loads(choice.message.content))


def test_stream_equals_whole(client, model):
    ask = dict(model=model, messages=SAY, temperature=0, max_tokens=300, response_format=follow(TALE))
    whole = client.chat.completions.create(**ask, extra_body=POLICIES[0]).choices[0].message.content
    chunks = list(client.chat.completions.create(**ask, stream=True, extra_body=POLICIES[0]))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "stop"
    jsonschema_rs.validate(TALE, json.loads(whole))


def test_parse(client, model):
    ask = dict(model=model, messages=SAY, temperature=1, seed=1, max_tokens=300, response_format=Fox)
    fox = client.chat.completions.parse(**ask).choices[0].message.parsed
    assert isinstance(fox, Fox) and fox.colour in ("red", "grey")
    with client.chat.completions.stream(**ask) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Fox)


def test_cut_short(client, model):
    ask = dict(model=model, messages=SAY, max_tokens=2, response_format=follow(TALE))
    assert client.chat.completions.create(**ask).choices[0].finish_reason == "length"
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=model, messages=SAY, max_tokens=2, response_format=Fox)


def test_json_object_and_text(client, model):
    ask = dict(model=model, messages=SAY, temperature=1, seed=2, max_tokens=200)
    choice = client.chat.completions.create(**ask, response_format={"type": "json_object"}).choices[0]
    assert choice.message.content.startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    plain = client.chat.completions.create(**ask, extra_body=POLICIES[0])
    text = client.chat.completions.create(**ask, response_format={"type": "text"}, extra_body=POLICIES[0])
    assert text.choices[0].message.content == plain.choices[0].message.content


def test_completions(client, model):
    body = {"response_format": follow({"type": "integer", "minimum": 100, "maximum": 999}), **POLICIES[0]}
    choice = client.completions.create(model=model, prompt="Once", max_tokens=20, extra_body=body).choices[0]
    assert 100 <= int(choice.text) <= 999 and choice.finish_reason == "stop"


@pytest.mark.parametrize(
    ("response_format", "code", "param", "word"),
    [
        (follow({"type": "array", "uniqueItems": True}), "invalid_response_format", "response_format", "uniqueItems"),
        (follow({"properties": {"a": {"minlength": 1}}}), "invalid_response_format", "response_format", "minlength"),
        (follow({"$ref": "https://example.org/x"}), "invalid_response_format", "response_format", "example.org"),
        (follow({"type": "string", "pattern": "("}), "invalid_response_format", "response_format", "unclosed"),
        (follow({"not": {}, "x-guidance": {"lenient": True}}), "invalid_response_format", "response_format", "keyword"),
        (follow("object"), "invalid_response_format", "response_format", "object or a boolean"),
        ({"type": "json_schema"}, "invalid_type", "response_format", "json_schema"),
        ({"type": "grammar"}, "invalid_type", "response_format.type", "grammar"),
        (
            {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}},
            "invalid_value",
            "response_format.json_schema.name",
            "letters",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(client, model, response_format, code, param, word, stream):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(
            model=model, messages=SAY, max_tokens=2, stream=stream, response_format=response_format
        )
    assert (raised.value.code, raised.value.param) == (code, param)
    assert word in raised.value.message
