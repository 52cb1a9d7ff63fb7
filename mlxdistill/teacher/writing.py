"""A teacher that writes texts, as the parent sees it.

The same model, the same engine and the same process as of a teacher that writes its answers; only what is asked for is
another. Whether the teacher scores labels or writes them otherwise makes no difference.
"""

from __future__ import annotations

from mlxdistill.config.models import TeacherConfig
from mlxdistill.config.synth import SynthConfig
from mlxdistill.platform.models import find_gguf
from mlxdistill.tasks.drafting import DraftPrompt, DraftTask
from mlxdistill.tasks.protocols import Progress
from mlxdistill.teacher.asking import ModelLabeller
from mlxdistill.teacher.drafts import Writing
from mlxdistill.teacher.generating import N_BATCH, N_SEQ
from mlxdistill.teacher.generating_child import ENTRY, GenerateRequest
from mlxdistill.teacher.gguf import inspect_gguf
from mlxdistill.teacher.grammar import schema_grammar
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt, asked_turn


def open_writer(
    config: TeacherConfig, synth: SynthConfig, prompt: DraftPrompt, max_tokens: int, progress: Progress
) -> ModelLabeller:
    """A context manager that writes texts: its rows are what stands between the prompt's head and tail
    (`DraftPrompt.fill`), their answers hold a text in the prompt's form, or are `unparsable`. What is drawn for a row
    depends on its id and `synth.seed`.

    Args:
        config: the teacher, with a `model`.
        max_tokens: of one text.

    Raises ModelError where the model is missing, damaged or of a kind that cannot be asked.
    """
    assert config.model is not None
    info = inspect_gguf(find_gguf(config.model))
    before, after = asked_turn(info, thinking=False)
    grammar = schema_grammar(prompt.form.schema) if prompt.form.format == "json" else None
    writing = Writing(
        prompt.form, grammar, temperature=synth.temperature, seed=synth.seed, max_tokens=max_tokens, retries=False
    )
    limits = Limits(config.n_ctx, config.n_batch or N_BATCH, config.n_seq or N_SEQ, config.threads)
    parts = LabelPrompt(before, prompt.head, prompt.tail, after, (), ("",))
    return ModelLabeller(
        ENTRY,
        GenerateRequest(info.files[0], parts, DraftTask(), writing, limits),
        info,
        samples=(0,),
        fingerprint="",
        prompt_fingerprint="",
        progress=progress,
    )
