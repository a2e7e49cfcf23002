"""The official client must not notice a difference."""

import openai
import pytest

SAY = [{"role": "user", "content": "Once upon a time"}]


def test_models(client, model):
    assert [m.id for m in client.models.list()] == [model]
    assert client.models.retrieve(model).id == model


def test_chat(client, model):
    answer = client.chat.completions.create(model=model, messages=SAY, temperature=0, max_completion_tokens=12)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer._request_id


def test_an_answer_can_be_sent_back(client, model):
    first = client.chat.completions.create(model=model, messages=SAY, temperature=0, max_tokens=4)
    turn = first.choices[0].message
    more = [*SAY, turn, {"role": "user", "content": [{"type": "text", "text": "go on"}]}]
    assert client.chat.completions.create(model=model, messages=more, max_tokens=2).choices


def test_stream_equals_whole(client, model):
    ask = dict(model=model, messages=SAY, temperature=0, max_tokens=16, extra_body={"policy": "full"})
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks[:-1])


def test_stream_helper(client, model):
    with client.chat.completions.stream(model=model, messages=SAY, temperature=0, max_tokens=8) as stream:
        kinds = [event.type for event in stream]
        try:
            final = stream.get_final_completion()
        except openai.LengthFinishReasonError as cut:  # what the helper makes of every answer that max_tokens ends
            final = cut.completion
    assert "chunk" in kinds and isinstance(final.choices[0].message.content, str)


def test_logprobs(client, model):
    ask = dict(model=model, messages=SAY, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3)
    whole = client.chat.completions.create(**ask).choices[0].logprobs.content
    streamed = [
        token
        for chunk in client.chat.completions.create(**ask, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert [t.token for t in whole] == [t.token for t in streamed]
    for token in whole:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.bytes is None or bytes(token.bytes).decode(errors="replace") == token.token


def test_completions(client, model):
    answer = client.completions.create(model=model, prompt=["one", "two"], n=2, max_tokens=4, logprobs=2, seed=1)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert len(answer.choices[0].logprobs.tokens) == len(answer.choices[0].logprobs.text_offset)
    text = client.completions.create(model=model, prompt="one", temperature=0, max_tokens=6).choices[0].text
    parts = client.completions.create(model=model, prompt="one", temperature=0, max_tokens=6, stream=True)
    assert "".join(p.choices[0].text for p in parts) == text


def test_seed_and_n(client, model):
    ask = dict(model=model, messages=SAY, temperature=1.5, seed=3, n=2, max_tokens=8, extra_body={"policy": "full"})
    one, two = (client.chat.completions.create(**ask) for _ in range(2))
    assert [c.message.content for c in one.choices] == [c.message.content for c in two.choices]


def test_decisions(client, model):
    body = {"mobile": True, "policy": "mobile", "gamma": 0.5}
    chunks = client.chat.completions.create(
        model=model, messages=SAY, temperature=0, max_tokens=6, stream=True, extra_body=body
    )
    tokens = [t for c in chunks for t in (c.choices[0].model_extra.get("mobile") or {}).get("tokens", [])]
    assert tokens and {t["decision"] for t in tokens} <= {"little", "big", "fallback"}


@pytest.mark.parametrize(
    ("change", "error", "code", "param"),
    [
        ({"model": "no such model"}, openai.NotFoundError, "model_not_found", "model"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_value", "temperature"),
        ({"messages": []}, openai.BadRequestError, "invalid_value", "messages"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            openai.BadRequestError,
            "unsupported_parameter",
            "tools",
        ),
        ({"extra_body": {"nonsense": 1}}, openai.BadRequestError, "unknown_parameter", "nonsense"),
        (
            {"messages": [{"role": "user", "content": "word " * 200_000}]},
            openai.BadRequestError,
            "context_length_exceeded",
            "messages",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors(client, model, change, error, code, param, stream):
    ask = {"model": model, "messages": SAY, "max_tokens": 2, "stream": stream} | change
    with pytest.raises(error) as raised:
        client.chat.completions.create(**ask)
    assert (raised.value.code, raised.value.param) == (code, param)
