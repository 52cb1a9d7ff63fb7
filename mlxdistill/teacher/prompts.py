"""A teacher's prompt: as text in its parts, and as tokens."""

from __future__ import annotations

from dataclasses import dataclass

from mlxdistill.errors import ModelError
from mlxdistill.tasks.chat import user_turn
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.gguf import GgufInfo
from mlxdistill.teacher.tokens import plain_tokens, template_tokens


@dataclass(frozen=True, slots=True)
class LabelPrompt:
    """A prompt in its parts: template, prompt, the row's text, prompt, template; and what may be answered.

    Attributes:
        before, after: the chat template's own text, in which control tokens count.
        head, tail: the prompt around the row's text, in which they do not.
        labels: their names, in the order of the probabilities.
        verbalizers: the text of each.
    """

    before: str
    head: str
    tail: str
    after: str
    labels: tuple[str, ...]
    verbalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """What all rows share: the tokens before a row's text, and those after it."""

    prefix: tuple[int, ...]
    tail: tuple[int, ...]


def asked_turn(info: GgufInfo, *, thinking: bool) -> tuple[str, str]:
    """What the model's template puts before and after a prompt, up to the answer's first token.

    Raises ModelError where the model has no template, or where it does not work.
    """
    where = str(info.files[0])
    if info.chat_template is None:
        hint = "use an instruction-tuned model, whose GGUF file holds a chat template"
        raise ModelError("the model has no chat template", where=where, hint=hint)
    special_tokens = {"bos_token": info.bos_token or "", "eos_token": info.eos_token or ""}
    return user_turn(info.chat_template, special_tokens=special_tokens, close_thinking=not thinking, where=where)


def prompt_tokens(model: Model, prompt: LabelPrompt) -> PromptTokens:
    """Raises ModelError where nothing comes after the row's text, so that no answer is begun."""
    prefix = template_tokens(model, prompt.before)
    if model.bos is not None and prefix[:1] != [model.bos]:
        prefix.insert(0, model.bos)
    prefix += plain_tokens(model, prompt.head, follows_text=bool(prompt.before))
    tail = plain_tokens(model, prompt.tail) + template_tokens(model, prompt.after, follows_text=True)
    if not tail:
        message = "the chat template ends with the user's text, and marks no beginning of an answer"
        raise ModelError(message, where=str(model.path), hint="end the prompt with a line after {text}")
    return PromptTokens(tuple(prefix), tuple(tail))


def verbalizer_tokens(model: Model, prompt: LabelPrompt) -> list[list[int]]:
    """Each label's verbalizer as the model would write it, right after the prompt."""
    spaced = prompt.after[-1:].isspace()  # otherwise the space that some vocabularies add is what the model expects
    return [plain_tokens(model, text, follows_text=spaced) for text in prompt.verbalizers]
