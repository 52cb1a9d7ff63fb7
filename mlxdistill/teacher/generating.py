"""A teacher that writes its answers, as the parent sees it: which model, which prompt, how answers are written."""

from __future__ import annotations

from importlib.metadata import version

from mlxdistill.config.models import TeacherConfig
from mlxdistill.platform.models import cached_sha256, find_gguf
from mlxdistill.tasks.chat import OPEN_THINKING
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.forms import THOUGHT_END, AnswerForm
from mlxdistill.tasks.protocols import Progress
from mlxdistill.tasks.rows import canonical_json, content_hash
from mlxdistill.teacher.asking import ModelLabeller
from mlxdistill.teacher.drafts import Writing
from mlxdistill.teacher.generating_child import ENTRY, GenerateRequest
from mlxdistill.teacher.gguf import GgufInfo, inspect_gguf
from mlxdistill.teacher.grammar import MOST_REPETITIONS, schema_grammar
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt, asked_turn

N_BATCH, N_SEQ = 512, 32
RATIONALE_CHARACTERS_PER_TOKEN = 2  # of max_tokens: half of them for the rationale, at some four characters each


class GeneratingLabeller(ModelLabeller):
    """A GGUF model that writes `config.samples` answers to each row, as a `Labeller`.

    Logits move a little with what else is decoded in the same call, and where two tokens are nearly as likely, the
    answer goes one way or the other: the rows left after a stop share other calls than they would have without it, and
    their answers may differ from those of an uninterrupted run. Only scored answers repeat to the bit.

    Args:
        config: the teacher, with a `model` and `answer: generate`.
        task: what is asked.
        progress: hears of what takes time.
        template: the text of a prompt file, or None for the task's own prompt.

    Raises ModelError where the model is missing, damaged or of a kind that cannot be asked, UsageError where the labels
    make too large a grammar.
    """

    def __init__(
        self, config: TeacherConfig, task: ClassificationTask, progress: Progress, template: str | None = None
    ) -> None:
        assert config.model is not None
        info = inspect_gguf(find_gguf(config.model))
        thinking = config.thinking and THOUGHT_END in (info.chat_template or "")
        form = AnswerForm(config.format, config.rationale)
        writing = _writing(config, task, form, thinking=thinking)
        prompt = _prompt(info, task, template, form, thinking=thinking)
        limits = Limits(config.n_ctx, config.n_batch or N_BATCH, config.n_seq or N_SEQ, config.threads)
        # Without `samples` and `keep_logprobs`: whoever asks for more of them keeps the answers that have enough.
        decoding = {
            "model_sha256": [cached_sha256(path, progress.note) for path in info.files],
            "llama_cpp_python": version("llama-cpp-python"),
            "answer": config.answer,
            "format": config.format,
            "rationale": config.rationale,
            "temperature": config.temperature,
            "seed": config.seed,
            "max_tokens": config.max_tokens,
            "thinking": thinking,
            "n_ctx": min(config.n_ctx, info.context_length or config.n_ctx),
            "n_batch": limits.n_batch,
            "n_seq": limits.n_seq,
        }
        parts = [prompt.before, prompt.head, prompt.tail, prompt.after, prompt.verbalizers, writing.grammar]
        super().__init__(
            ENTRY,
            GenerateRequest(info.files[0], prompt, task, writing, limits),
            info,
            samples=tuple(range(config.samples)),
            fingerprint=content_hash(canonical_json(decoding)),
            prompt_fingerprint=content_hash(canonical_json(parts)),
            progress=progress,
        )


def _writing(config: TeacherConfig, task: ClassificationTask, form: AnswerForm, *, thinking: bool) -> Writing:
    grammar = None
    if form.format == "json":
        most = min(MOST_REPETITIONS, RATIONALE_CHARACTERS_PER_TOKEN * config.max_tokens)
        grammar = schema_grammar(form.schema(task.verbalizers, most), after_thought=thinking)
    return Writing(
        form,
        grammar,
        config.samples,
        config.temperature,
        config.seed,
        config.max_tokens,
        thinking,
        config.keep_logprobs or 0,
    )


def _prompt(
    info: GgufInfo, task: ClassificationTask, template: str | None, form: AnswerForm, *, thinking: bool
) -> LabelPrompt:
    before, after = asked_turn(info, thinking=thinking)
    if thinking and not after.rstrip().endswith(OPEN_THINKING.strip()):
        after += OPEN_THINKING
    prompt = task.teacher_prompt(template, form=form)
    return LabelPrompt(before, prompt.head, prompt.tail, after, task.names, task.verbalizers)
