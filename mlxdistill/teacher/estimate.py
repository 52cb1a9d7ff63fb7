"""What labelling will take, before any weights are loaded: tokens, time, memory.

Tokens are counted, not guessed: a short-lived process opens the model's vocabulary alone and tokenises a sample of the
rows as labelling will. Time comes from how fast this model was on this machine before; where it never ran, from the
operations its weights ask for and how fast the machine multiplies matrices, as a range. Memory is the sum of its parts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.config.models import TeacherConfig
from mlxdistill.tasks.chat import OPEN_THINKING
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.forms import THOUGHT_END, AnswerForm
from mlxdistill.tasks.protocols import Progress
from mlxdistill.tasks.trie import build_trie
from mlxdistill.teacher.branches import plan_branches
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.generation import MEMORY_SHARE, USUAL_TEXT_TOKENS
from mlxdistill.teacher.gguf import GgufInfo, ModelShape
from mlxdistill.teacher.lanes import MOST_SEQUENCES
from mlxdistill.teacher.prompts import LabelPrompt, asked_turn, prompt_tokens, verbalizer_tokens
from mlxdistill.teacher.scoring import SPLIT_TEXT_TOKENS
from mlxdistill.teacher.tokens import first_tokens
from mlxdistill.workers import Worker
from mlxdistill.workers.channel import Channel

ENTRY = "mlxdistill.teacher.estimate:open_vocabulary"
SAMPLE_ROWS = 1024

# Share of the speed of a large matrix multiplication that llama.cpp's prefill has reached: least, usual, most.
PREFILL_SHARE = (0.25, 0.6, 1.2)
# Share of prefill's speed that writing many answers at once reaches.
WRITING_SHARE = (0.15, 0.5, 0.8)
CELL_BYTES = 2  # float16


@dataclass(frozen=True, slots=True)
class Range:
    """A figure that is not known exactly."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class CountRequest:
    """What is tokenised around the rows' texts. `prompts` as of `Scorer`; `answers`: what may be written, where the
    answer is written and how long it will be is known."""

    model: Path
    prompts: Mapping[int, LabelPrompt]
    n_ctx: int
    written: bool
    answers: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens decoded.

    Attributes:
        prefix: once for all rows; `rows`: for each row of the sample, over all prompts, without what is written.
        answer: written for one answer; nothing where labels are scored.
        truncated: rows of the sample that do not fit.
        wanted: logits asked for of a row.
    """

    prefix: int
    rows: tuple[int, ...]
    answer: Range
    truncated: int
    wanted: int


def open_vocabulary(request: CountRequest, channel: Channel) -> Callable[[tuple[str, ...], Channel], Counted]:
    """In the child: loads the vocabulary and returns what counts (see `workers/child.py`)."""
    model = Model(request.model, weights=False)
    prompts = [prompt_tokens(model, prompt) for prompt in request.prompts.values()]
    first = next(iter(request.prompts.values()))
    inner = [0] if request.written else _inner_nodes(model, first, len(prompts))
    shared = max(len(prompt.prefix) + len(prompt.tail) for prompt in prompts)
    n_ctx = min(request.n_ctx, model.info.context_length or request.n_ctx)
    room = max(1, n_ctx - shared - max(inner) - request.max_tokens * request.written)

    def count(texts: tuple[str, ...], channel: Channel) -> Counted:
        lengths, truncated = [], 0
        for text in texts:
            tokens, cut = first_tokens(model, text, room)
            truncated += cut
            lengths.append(sum(len(tokens) + len(prompt.tail) + nodes for prompt in prompts for nodes in inner))
        return Counted(
            prefix=sum(len(prompt.prefix) for prompt in prompts),
            rows=tuple(lengths),
            answer=_answer_tokens(model, request),
            truncated=truncated,
            wanted=len(prompts) * sum(1 + nodes for nodes in inner),
        )

    return count


def _answer_tokens(model: Model, request: CountRequest) -> Range:
    most = float(request.max_tokens)
    if not request.written:
        return Range(0.0, 0.0, 0.0)
    if not request.answers:
        return Range(1.0, most / 2, most)
    lengths = [min(most, len(model.tokenise(text, control=False)) + 1) for text in request.answers]
    return Range(min(lengths), statistics.fmean(lengths), max(lengths))


def _inner_nodes(model: Model, prompt: LabelPrompt, prompts: int) -> list[int]:
    """Tokens of labels that are decoded with every row, of each time that it is decoded."""
    verbalizers = verbalizer_tokens(model, prompt)
    end = model.end_of_turn
    paths = build_trie(verbalizers, -1 if end is None else end, prompt.labels).paths
    most = 1 if model.is_recurrent else MOST_SEQUENCES - prompts
    return [len(plan.inner) for plan in plan_branches(paths, most)]


def count_request(
    config: TeacherConfig, info: GgufInfo, task: ClassificationTask, template: str | None, samples: Sequence[int]
) -> CountRequest:
    """What labelling with this teacher puts around the rows' texts.

    Args:
        samples: the labeller's; of scored answers how far the list of labels is shifted.
    """
    written = config.answer == "generate"
    thinking = config.thinking and (not written or THOUGHT_END in (info.chat_template or ""))
    before, after = asked_turn(info, thinking=thinking)
    form = AnswerForm(config.format, config.rationale) if written else None
    prompts = {}
    for shift in (0,) if written else samples:
        prompt = task.teacher_prompt(template, shift=shift, form=form)
        ends = after + OPEN_THINKING if written and thinking else after
        prompts[shift] = LabelPrompt(before, prompt.head, prompt.tail, ends, task.names, task.verbalizers)
    short = written and not (config.rationale or thinking)
    texts = [f'{{"label": "{text}"}}' if config.format == "json" else text for text in task.verbalizers]
    answers = tuple(texts) if short else ()
    return CountRequest(info.files[0], prompts, config.n_ctx, written, answers, config.max_tokens)


def count_tokens(request: CountRequest, texts: Sequence[str], progress: Progress) -> tuple[Counted, int]:
    """The tokens, and the memory (bytes) of a process that holds the vocabulary alone.

    Raises ModelError where the model or its template cannot be used, WorkerError where the process dies.
    """
    with Worker(ENTRY, request, name="tokeniser", progress=progress) as worker:
        for _ in worker.ask(tuple(texts)):
            raise AssertionError("the tokeniser has nothing to send")
    counted: Counted = worker.result
    return counted, worker.peak_memory_bytes


def expected_seconds(
    counted: Counted, rows: float, samples: int, *, speed: float | None, shape: ModelShape, gflops: float
) -> Range:
    """Without loading the model.

    Args:
        rows: to be asked about, of which `counted` is a sample.
        samples: answers written for each.
        speed: tokens a second that labelling with this model reached on this machine, where it is known.
        gflops: of a matrix multiplication, in 1e9 operations a second.
    """
    read = counted.prefix + rows * statistics.fmean(counted.rows)
    if speed and not counted.answer.high:
        return Range(read / speed, read / speed, read / speed)
    reading = 2 * (read * shape.block_weights + rows * counted.wanted * shape.head_weights)
    writing = 2 * rows * samples * (shape.block_weights + shape.head_weights)
    slow, usual, fast = (
        (reading + writing * tokens / share) / (gflops * 1e9 * prefill)
        for prefill, share, tokens in zip(
            PREFILL_SHARE,
            WRITING_SHARE,
            (counted.answer.high, counted.answer.value, counted.answer.low),
            strict=True,
        )
    )
    return Range(fast, usual, slow)


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Bytes: the model's file, the key-value memory, what computing takes, and the process itself."""

    weights: int
    key_values: int
    computing: int
    process: int

    @property
    def total(self) -> int:
        return self.weights + self.key_values + self.computing + self.process


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """How the model is run, as far as memory follows from it.

    Attributes:
        n_ctx, n_batch, n_seq: as in `lanes.Limits`; `split`: whether every row has a key-value memory of its own.
        written_tokens: most tokens of a written answer; 0 where labels are scored.
        machine_bytes: of the machine's memory.
    """

    n_ctx: int
    n_batch: int
    n_seq: int
    split: bool
    written_tokens: int
    machine_bytes: int


def expected_memory(info: GgufInfo, counted: Counted, settings: MemorySettings, process: int) -> MemoryParts:
    """The teacher's process at its peak.

    Args:
        process: bytes of a process with the vocabulary alone.
    """
    shape = info.shape
    cell = max(1, 2 * CELL_BYTES * shape.layers * shape.kv_heads * shape.head_width)
    n_ctx = min(settings.n_ctx, info.context_length or settings.n_ctx)
    cells = max(n_ctx, counted.prefix + settings.n_batch)
    if settings.written_tokens:
        usual = counted.prefix + settings.n_seq * (USUAL_TEXT_TOKENS + settings.written_tokens)
        cells = max(n_ctx, min(usual, int(MEMORY_SHARE * settings.machine_bytes) // cell))
    elif settings.split:
        cells += settings.n_seq * (counted.prefix + SPLIT_TEXT_TOKENS)
    outputs = max(settings.n_seq + 1, min(settings.n_batch, settings.n_seq * counted.wanted))
    activations = 4 * settings.n_batch * (4 * shape.width + 2 * shape.feed_forward + shape.heads * min(cells, n_ctx))
    logits = 2 * 4 * outputs * info.vocabulary_size
    return MemoryParts(info.file_bytes, cells * cell, activations + logits, process)
