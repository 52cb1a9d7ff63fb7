"""How many tokens rows take as the student reads them, counted with its own tokenizer and no model."""

from __future__ import annotations

from collections.abc import Sequence

from mlxdistill.student.base import check_configuration, check_student, load_guarded_tokenizer, most_tokens
from mlxdistill.student.encoding import RowEncoder
from mlxdistill.tasks.classification import Prompt

UNLIMITED = 2**31


class RowLengths:
    """Measures rows with prompt, chat template and answer.

    Args:
        model: a folder or hub id.
        labels: name and verbalizer of each.
        max_tokens: as of `student.max_tokens`.

    Raises ModelError where the model is not here, or cannot be trained.
    """

    unit = "tokens of the student, prompt and answer included"

    def __init__(self, model: str, labels: Sequence[tuple[str, str]], prompt: Prompt, max_tokens: int) -> None:
        folder = check_student(model)
        tokenizer = load_guarded_tokenizer(folder, model)
        self._encoder = RowEncoder(tokenizer, labels=labels, prompt=prompt, max_tokens=UNLIMITED)
        self._answer = max(map(len, self._encoder.answers)) + 1
        self.most: int | None = most_tokens(max_tokens, check_configuration(folder, model))

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(self._encoder.prompt_tokens("", text)[0]) + self._answer for text in texts]
