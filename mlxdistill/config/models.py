"""Every key a configuration may have, its type, its default and what it does.

Sections are handed to the stages as they are; no stage sees the whole.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from mlxdistill.config.data import DataConfig
from mlxdistill.config.filter import FilterConfig
from mlxdistill.config.section import Section, scalar_keys, scalar_name
from mlxdistill.config.synth import SynthConfig


class LabelConfig(Section):
    description: str = ""
    verbalizer: str | None = Field(
        None, min_length=1, description="The text models write the label as; default: its name."
    )


class TaskConfig(Section):
    type: Literal["classification"] = "classification"
    instruction: str = Field(min_length=1, description="What is asked of the models, in one sentence.")
    labels: dict[str, LabelConfig] = Field(description="Each label with what it means.")

    @field_validator("labels", mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = dict.fromkeys(map(scalar_name, value))
        if isinstance(value, dict):
            return {
                scalar_name(name): {"description": label or ""} if isinstance(label, str | None) else label
                for name, label in value.items()
            }
        return value

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: dict[str, LabelConfig]) -> dict[str, LabelConfig]:
        if len(labels) < 2:
            raise ValueError("a classification needs at least two labels")
        seen: dict[str, str] = {}
        for name, label in labels.items():
            written = (label.verbalizer or name).strip()
            if not written:
                raise ValueError(f"label {name!r} is written as nothing; give it a verbalizer")
            if written.casefold() in seen:
                raise ValueError(f"labels {seen[written.casefold()]!r} and {name!r} are both written as {written!r}")
            seen[written.casefold()] = name
        return labels


# Which keys of a teacher mean something only where it has a model, or a log, or answers in one of the two ways.
OF_SCORES = ("label_orders", "calibrate", "kv")
OF_GENERATED = ("samples", "temperature", "format", "rationale", "max_tokens", "seed", "keep_logprobs")
OF_A_LOG = ("answer_key", "answer_values")
OF_A_MODEL = ("answer", "prompt", "thinking", "near_duplicates", "n_ctx", "n_batch", "n_seq", "threads")


class TeacherConfig(Section):
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="What it is called where there are several; default: teacher1, teacher2, ...",
    )
    model: str | None = Field(None, description="A GGUF file, or a hub id that was pulled.")
    log: tuple[str, ...] | None = Field(None, description="Request logs whose answers are the teacher's.")
    answer_key: str | None = Field(None, description="The JSON key that holds the logged label.")
    answer_values: dict[str, str] = Field(default_factory=dict, description="What the log wrote for each label.")
    answer: Literal["score", "generate"] = Field(
        "score", description="score: a probability for every label. generate: the model writes its answer."
    )
    prompt: str | None = Field(
        None,
        description="A file with {text} in it, and {instruction}, {labels}, {names}, {answer} where wanted.",
    )
    thinking: bool = Field(False, description="Leave a thinking model's thoughts open before it answers.")
    label_orders: int = Field(
        1,
        ge=1,
        description="Score: the labels listed in so many orders, each beginning with another label, and the "
        "probabilities averaged; at most as many as there are labels.",
    )
    calibrate: Literal["content_free"] | None = Field(
        None, description="Score: divide by the probabilities that a text without content gets."
    )
    scale_temperature: bool = Field(
        False, description="Fit one temperature for the class probabilities on validation rows with gold."
    )
    samples: int = Field(1, ge=1, description="Generate: so many answers a row, the label by vote.")
    temperature: float = Field(0.0, ge=0, description="Generate: 0 takes the likeliest token; samples need more.")
    format: Literal["json", "text"] = Field(
        "json", description="Generate: JSON under a grammar, or the first line of plain text."
    )
    rationale: bool = Field(False, description="Generate: let the model explain itself before it names the label.")
    max_tokens: int = Field(256, ge=1, description="Generate: most tokens of one answer.")
    seed: int = Field(0, ge=0, lt=2**63, description="Generate: of the sampled answers.")
    keep_logprobs: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Generate: keep so many of the likeliest tokens' log-probabilities at each token of an answer, for "
        "students that share the teacher's tokenizer.",
    )
    near_duplicates: float | None = Field(
        None,
        ge=0.5,
        le=1,
        description="Rows of the pool at least this similar to an earlier one take its answer (Jaccard similarity of "
        "runs of five characters; 0.8 is usual); default: every row is asked about.",
    )
    n_ctx: int = Field(
        4096, ge=64, description="Most tokens of one prompt; longer rows lose the end of their text, and are counted."
    )
    n_batch: int | None = Field(
        None, ge=32, description="Tokens decoded at once; default: found by trying (generate: 512)."
    )
    n_seq: int | None = Field(
        None, ge=1, le=256, description="Rows decoded at once; default: found by trying (generate: 32)."
    )
    kv: Literal["unified", "split"] | None = Field(
        None, description="Score: one key-value memory for all rows, or one each; default: found by trying."
    )
    threads: int | None = Field(None, ge=1, description="Default: as many as are fastest when the model opens.")

    @field_validator("log", mode="before")
    @classmethod
    def _one_log(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("answer_values", mode="before")
    @classmethod
    def _scalar_names(cls, value: Any) -> Any:
        return scalar_keys(value)

    @model_validator(mode="after")
    def _one_kind(self) -> TeacherConfig:
        if (self.model is None) == (self.log is None):
            raise ValueError("a teacher is either a `model` or a `log`")
        if self.log is not None:
            self._refuse((*OF_A_MODEL, *OF_SCORES, *OF_GENERATED), "of a `model`; a `log` is only read")
        elif self.answer == "score":
            self._refuse(OF_GENERATED, "of generated answers: set `answer: generate`")
        else:
            self._refuse(OF_SCORES, "of scored answers: set `answer: score`")
        if self.model is not None:
            self._refuse(OF_A_LOG, "of a `log`, whose answers are parsed")
        if self.samples > 1 and not self.temperature:
            raise ValueError("without a `temperature` all `samples` are the same: set one, for example 0.7")
        return self

    def _refuse(self, keys: tuple[str, ...], what: str) -> None:
        """Nothing that is configured goes unheeded."""
        fields = type(self).model_fields
        given = [key for key in keys if getattr(self, key) != fields[key].get_default(call_default_factory=True)]
        if given:
            raise ValueError(f"{' and '.join(f'`{key}`' for key in given)} {'is' if given[1:] == [] else 'are'} {what}")


# What `student.prompt` says instead of a file.
TEACHERS_PROMPT = "teacher"

FineTuneType = Literal["lora", "dora", "full"]
# What of the LoRA settings means nothing where layers are trained themselves.
OF_LORA = ("rank", "scale", "dropout", "keys", "rslora")


class LoraConfig(Section):
    rank: int = Field(8, ge=1)
    scale: float = Field(20.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    layers: int = Field(16, description="Layers with LoRA, counted from the top; -1: all.")
    keys: tuple[str, ...] | None = Field(None, description="Which linear layers; default: all in the block.")
    rslora: bool = Field(
        False, description="Divide the scale by the square root of the rank, so that one scale suits every rank."
    )

    @field_validator("layers")
    @classmethod
    def _some_layers(cls, value: int) -> int:
        if value == 0 or value < -1:
            raise ValueError("give a number of layers, or -1 for all")
        return value


class StudentConfig(Section):
    model: str = Field(description="An MLX model: a folder, or a hub id that was pulled.")
    quantize: Literal[4, 8] | None = Field(None, description="Quantize a float base before training (QLoRA).")
    prompt: str | None = Field(
        None,
        description="A file, as for the teacher; `teacher`: the teacher's own; default: instruction, labels, text.",
    )
    fine_tune_type: FineTuneType = Field(
        "lora", description="full trains the top `lora.layers` layers themselves, and writes them as the adapter."
    )
    lora: LoraConfig = LoraConfig()
    max_tokens: int = Field(
        1024, ge=16, description="Most tokens of one row; longer ones lose the end of their text, and are counted."
    )

    @model_validator(mode="after")
    def _full_is_not_lora(self) -> StudentConfig:
        """Nothing that is configured goes unheeded."""
        if self.fine_tune_type != "full":
            return self
        if self.quantize is not None:
            raise ValueError("a quantized model cannot be trained in full: remove `quantize` or `fine_tune_type`")
        default = LoraConfig()
        given = [key for key in OF_LORA if getattr(self.lora, key) != getattr(default, key)]
        if given:
            raise ValueError(
                f"`lora.{given[0]}` means nothing with `fine_tune_type: full`, which heeds `lora.layers` alone"
            )
        return self


class TrainConfig(Section):
    epochs: int = Field(2, ge=1)
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Learn from this share of the rows, drawn by chance with the seed; larger ones hold smaller ones.",
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        16, description="Rows per step; auto: as many as fit the memory, at most 64 and an eighth of the rows."
    )
    batch_tokens: int | None = Field(
        4096,
        ge=16,
        description="Most tokens at once, padding included: a larger step is computed in parts, whose gradients "
        "are added up (gradient accumulation), with the same result.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute each layer a second time instead of keeping what it computed: slower, less memory."
    )
    learning_rate: float = Field(1e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="After the warm-up.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0, description="Largest norm of a step's gradient.")
    soft_weight: float = Field(
        0.5, ge=0, le=1, description="Share of the loss that the teacher's class probabilities get."
    )
    temperature: float = Field(1.0, gt=0, description="Flattens (> 1) the teacher's class probabilities.")
    rationale_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="How much the rationale a teacher wrote counts in the loss beside the label; 0: not learned.",
    )
    class_balance: Literal[False, "weights", "upsample", "downsample"] = Field(
        False,
        description="Let every class count the same: weigh rows in the loss (weights, or true), repeat those of small "
        "classes (upsample), or leave out those of large ones, others in each epoch (downsample).",
        json_schema_extra={"enum": [False, True, "weights", "upsample", "downsample"]},
    )
    record_dynamics: bool = Field(
        False,
        description="Keep each row's loss and margin in each epoch, for `filter.dynamics` in a second round; of two "
        "`epochs` or more.",
    )
    patience: int = Field(3, ge=1, description="Validations without a better loss before training stops.")
    validations_per_epoch: int = Field(4, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _epochs_to_record(self) -> TrainConfig:
        if self.record_dynamics and self.epochs < 2:
            raise ValueError("`record_dynamics` needs two `epochs` or more: in the first, nothing was learned before")
        return self

    @field_validator("class_balance", mode="before")
    @classmethod
    def _true_is_weights(cls, value: Any) -> Any:
        return "weights" if value is True else value


class EvaluateConfig(Section):
    margin: float = Field(0.02, gt=0, lt=1, description="How much worse than the teacher the student may be.")
    baselines: tuple[Literal["majority", "tfidf_logreg", "student_base"], ...] = (
        "majority",
        "tfidf_logreg",
        "student_base",
    )
    bootstrap: int = Field(2000, ge=100, description="Resamples of each bootstrap interval.")
    seed: int = Field(0, ge=0, lt=2**63)


class ReportConfig(Section):
    show_text: bool = Field(False, description="Show the text of mistakes in the report, not only their ids.")
    mistakes: int = Field(50, ge=0)


def _how_many(value: Any) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


# Told apart before they are checked, so that a mistake is named once, in the words of the form that was used.
OneOrSeveral = Annotated[
    Annotated[TeacherConfig, Tag("one")] | Annotated[tuple[TeacherConfig, ...], Tag("several")],
    Discriminator(_how_many),
]


class Config(Section):
    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the run folder, runs/<name>.")
    task: TaskConfig
    data: DataConfig
    teacher: OneOrSeveral = Field(description="One teacher, or a list of several.")
    combine: Literal["mean", "majority", "dawid_skene"] = Field(
        "mean", description="How the answers of several teachers become one."
    )
    filter: FilterConfig = FilterConfig()
    synth: SynthConfig = SynthConfig()
    student: StudentConfig
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    @field_validator("teacher")
    @classmethod
    def _distinct_teachers(
        cls, value: TeacherConfig | tuple[TeacherConfig, ...]
    ) -> TeacherConfig | tuple[TeacherConfig, ...]:
        teachers = value if isinstance(value, tuple) else (value,)
        if not teachers:
            raise ValueError("give at least one teacher")
        names = [teacher.name or f"teacher{number}" for number, teacher in enumerate(teachers, start=1)]
        if len(set(names)) < len(names):
            raise ValueError("two teachers have the same `name`")
        return value

    @model_validator(mode="after")
    def _prompt_to_keep(self) -> Config:
        if self.student.prompt == TEACHERS_PROMPT and next(iter(self.teachers.values())).model is None:
            raise ValueError("`student.prompt: teacher` needs a teacher with a `model`: a `log` has no prompt to keep")
        return self

    @property
    def teachers(self) -> dict[str, TeacherConfig]:
        """Each teacher by its name; a single one without a name is `teacher`."""
        if isinstance(self.teacher, TeacherConfig):
            return {self.teacher.name or "teacher": self.teacher}
        return {teacher.name or f"teacher{number}": teacher for number, teacher in enumerate(self.teacher, start=1)}
