"""A teacher that is asked for the personal data in a text, as the parent sees it: the same model, engine and process as
of a teacher that writes its answers."""

from __future__ import annotations

from mlxdistill.config.models import TeacherConfig
from mlxdistill.platform.models import find_gguf
from mlxdistill.tasks.protocols import Progress
from mlxdistill.tasks.quoting import QuoteForm, QuoteTask
from mlxdistill.teacher.asking import ModelLabeller
from mlxdistill.teacher.drafts import Writing
from mlxdistill.teacher.generating import N_BATCH, N_SEQ
from mlxdistill.teacher.generating_child import ENTRY, GenerateRequest
from mlxdistill.teacher.gguf import inspect_gguf
from mlxdistill.teacher.grammar import schema_grammar
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt, asked_turn


def open_quoter(config: TeacherConfig, form: QuoteForm, max_tokens: int, progress: Progress) -> ModelLabeller:
    """A context manager that answers rows with the quotes in their text (`QuoteForm.read`), as likely as it finds them.

    An answer whose end `max_tokens` cut off is `unparsable`; its text holds the quotes before.

    Raises ModelError where the model is missing, damaged or of a kind that cannot be asked.
    """
    assert config.model is not None
    info = inspect_gguf(find_gguf(config.model))
    before, after = asked_turn(info, thinking=False)
    writing = Writing(form, schema_grammar(form.schema), max_tokens=max_tokens, retries=False)
    limits = Limits(config.n_ctx, config.n_batch or N_BATCH, config.n_seq or N_SEQ, config.threads)
    prompt = LabelPrompt(before, form.head, form.tail, after, (), ("",))
    return ModelLabeller(
        ENTRY,
        GenerateRequest(info.files[0], prompt, QuoteTask(), writing, limits),
        info,
        samples=(0,),
        fingerprint="",
        prompt_fingerprint="",
        progress=progress,
    )
