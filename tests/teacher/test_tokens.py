"""A row can say anything and is only text."""

from __future__ import annotations

import pytest
from conftest import CONTROL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.tokens import plain_tokens, template_tokens


def control_texts(model: Model) -> list[str]:
    return [model.piece(token).decode() for token in range(model.vocabulary_size) if model.is_control(token)]


def text_of(model: Model, tokens: list[int]) -> str:
    return b"".join(model.piece(token) for token in tokens).decode("utf-8", "replace")


@pytest.fixture(params=["tiny_model", "stories_model"])
def model(request: pytest.FixtureRequest) -> Model:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Model)
    return found


def test_no_control_token_can_be_spelled(model: Model) -> None:
    texts = control_texts(model)
    assert len(texts) >= 2
    for text in texts:
        for written in (text, f"a{text}b", f" {text} ", text * 3, f"{text}\n{text}", f"<{text}>"):
            for follows_text in (False, True):
                tokens = plain_tokens(model, written, follows_text=follows_text)
                assert not any(model.is_control(token) for token in tokens), text
                assert text_of(model, tokens).strip() == written.strip()


def test_templates_do_have_control_tokens(tiny_model: Model) -> None:
    tokens = template_tokens(tiny_model, "<|im_start|>user\nok<|im_end|>")
    assert [tiny_model.piece(token).decode() for token in tokens if tiny_model.is_control(token)] == CONTROL[1:]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_text_comes_back_without_control_tokens(model: Model, data: st.DataObject) -> None:
    parts = st.one_of(
        st.sampled_from(control_texts(model)), st.text(max_size=8), st.sampled_from("</s>|_im end start\x00\n")
    )
    written = "".join(data.draw(st.lists(parts, max_size=8)))
    tokens = plain_tokens(model, written)
    assert not any(model.is_control(token) for token in tokens)
    expected = written.encode("utf-8", "replace").decode()
    assert text_of(model, tokens).lstrip(" ") == expected.lstrip(" ")


def test_parts_of_a_prompt_get_no_space_between_them(stories_model: Model) -> None:
    assert stories_model.adds_space
    assert text_of(stories_model, plain_tokens(stories_model, "time")) == "time"
    assert text_of(stories_model, plain_tokens(stories_model, "time", follows_text=False)) == " time"
    assert text_of(stories_model, template_tokens(stories_model, "time", follows_text=True)) == "time"
    joined = plain_tokens(stories_model, "upon") + plain_tokens(stories_model, " a time")
    assert text_of(stories_model, joined) == "upon a time"


def test_a_lone_surrogate_is_no_error(tiny_model: Model) -> None:
    assert text_of(tiny_model, plain_tokens(tiny_model, "a\ud800b")) == "a?b"
