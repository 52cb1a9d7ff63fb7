"""Opening the model that a student starts from.

A model's folder comes from strangers: only safetensors and JSON are read, and nothing in it is run except the chat
template, in a sandbox. Everything that can be wrong with a folder is found here, before a training starts.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.errors import ModelError
from mlxdistill.platform.metal import has_metal
from mlxdistill.platform.models import find_model_folder
from mlxdistill.platform.safetensors import check_safetensors
from mlxdistill.student.tokenizer import GuardedTokenizer
from mlxdistill.tasks.chat import render_chat

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx")
GROUP_SIZES = (64, 32)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
MOST_JSON_BYTES = 256 * 2**20  # the tokenizers of the largest vocabularies take some 40 MiB
_ANOTHER_MODEL = "use a model in MLX's format, such as those of mlx-community"


@dataclass(frozen=True, slots=True)
class Base:
    """An opened model: mlx-lm's module, its guarded tokenizer, its folder and its configuration."""

    model: Any
    tokenizer: GuardedTokenizer
    folder: Path
    config: dict[str, Any]


def context_tokens(config: Mapping[str, Any]) -> int | None:
    """The most tokens that a model was made for, where its configuration says so."""
    for section in (config, config.get("text_config")):
        for key in CONTEXT_KEYS:
            if isinstance(section, Mapping) and isinstance(section.get(key), int) and section[key] > 0:
                return int(section[key])
    return None


def most_tokens(asked: int, config: Mapping[str, Any]) -> int:
    """Of a row, where `asked` is what the user allows: never more than the model was made for."""
    return min(asked, context_tokens(config) or asked)


def check_folder(name: str) -> tuple[Path, dict[str, Any]]:
    """The folder of the model called `name`, found to be complete and free of code, and its config.json.

    Its chat template is not looked at: plain texts are learned without one.

    Raises ModelError, with the mend, for whatever is missing, damaged or refused.
    """
    folder = _find(name)
    config = check_configuration(folder, name)
    weights = sorted(folder.glob("model*.safetensors"))
    if not weights:
        raise ModelError("the weights are not in model*.safetensors", where=name, hint=_ANOTHER_MODEL)
    for path in weights:
        check_safetensors(path, name)
    tokenizer = _read_json(folder / "tokenizer.json", name).get("model")
    if not isinstance(tokenizer, dict) or "vocab" not in tokenizer:
        hint = "get the model again, or use another"
        raise ModelError("the model's tokenizer.json holds no vocabulary", where=name, hint=hint)
    return folder, config


def check_student(name: str) -> Path:
    """The folder of the model called `name`, complete, free of code and with a chat template that works.

    Raises ModelError as `check_folder` and `check_chat_template` do.
    """
    folder, _ = check_folder(name)
    check_chat_template(folder, name)
    return folder


def check_chat_template(folder: Path, name: str) -> None:
    """Renders a question and its answer with the template in a model's folder, as a training would.

    Raises ModelError where there is none, or where it does not work.
    """
    template = read_chat_template(folder, name)
    if template is None:
        hint = "use the instruct or chat version of the model"
        raise ModelError("the model has no chat template", where=name, hint=hint)
    special = {}
    for key, value in _read_json(folder / "tokenizer_config.json", name).items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            special[key] = text
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    for part, prompt in ((messages[:1], True), (messages, False)):
        render_chat(template, part, special_tokens=special, generation_prompt=prompt, where=name)


def check_configuration(folder: Path, name: str) -> dict[str, Any]:
    """The folder's config.json, found to name a kind of model and to ask for no code. Needs the JSON files alone.

    Raises ModelError, with the mend.
    """
    config = _read_json(folder / "config.json", name)
    tokenizer_config = _read_json(folder / "tokenizer_config.json", name)
    for key in ("auto_map", "model_file"):
        if key in config or (key == "auto_map" and key in tokenizer_config):
            message = f"the model wants to run code of its own (`{key}` in its configuration), which is never done"
            raise ModelError(message, where=name, hint=_ANOTHER_MODEL)
    if not isinstance(config.get("model_type"), str):
        raise ModelError("config.json names no model_type", where=name, hint=_ANOTHER_MODEL)
    return config


def load_base(name: str, quantize: int | None = None, *, read: bool = True) -> Base:
    """Opens a model for training or prediction.

    Without Metal, half-precision weights become float32, because MLX's CPU backend is some forty times slower with
    them. `quantize` turns a float base's weights into 4 or 8 bits, in groups of 64, or of 32 where a layer's width asks
    for it. Without `read` no weight is read: all have their shapes and types, and the value 0, in no memory.

    Raises ModelError, with the mend.
    """
    import mlx.core as mx
    from mlx_lm.utils import load_model

    folder, config = check_folder(name)
    try:
        model, config = load_model(folder, lazy=True)
        if not has_metal():
            model.set_dtype(mx.float32)
        if read:
            mx.eval(model.parameters())
    except ValueError as error:
        raise ModelError(_first_line(error), where=name, hint=_ANOTHER_MODEL) from error
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        message = f"the model cannot be read ({_first_line(error)})"
        raise ModelError(message, where=name, hint="pull it again, or use another model") from error
    if quantize is not None:
        _quantize(model, config, name, quantize)
    if read:
        mx.eval(model.parameters())
    else:
        empty(model)
    model.freeze()
    return Base(model, load_guarded_tokenizer(folder, name), folder, config)


def empty(model: Any) -> None:
    """Puts zeros in the place of every weight; each array is a view of a single number."""
    import mlx.core as mx
    from mlx.utils import tree_map

    model.update(tree_map(lambda weight: mx.broadcast_to(mx.zeros((), weight.dtype), weight.shape), model.parameters()))
    mx.eval(model.parameters())


def load_guarded_tokenizer(folder: Path, name: str) -> GuardedTokenizer:
    """The tokenizer in a model's folder. Raises ModelError where it cannot be read."""
    from mlx_lm.utils import load_tokenizer

    template = read_chat_template(folder, name)
    try:
        tokenizer = load_tokenizer(folder)._tokenizer
    except (ValueError, OSError, KeyError, TypeError, AttributeError, ImportError) as error:
        message = f"the model's tokenizer cannot be read ({_first_line(error)})"
        raise ModelError(message, where=name, hint="pull the model again, or use another") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError("the model's tokenizer is of the slow kind", where=name, hint=_ANOTHER_MODEL)
    return GuardedTokenizer(tokenizer, template, name)


def read_chat_template(folder: Path, name: str) -> str | None:
    """The model's chat template, from wherever it is kept; None for a model without one."""
    if (folder / "chat_template.jinja").is_file():
        return _read_text(folder / "chat_template.jinja", name)
    found: Any = None
    if (folder / "chat_template.json").is_file():
        found = _read_json(folder / "chat_template.json", name).get("chat_template")
    found = found or _read_json(folder / "tokenizer_config.json", name).get("chat_template")
    if isinstance(found, list):  # several templates, by name
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    return found if isinstance(found, str) and found.strip() else None


def _find(name: str) -> Path:
    try:
        return find_model_folder(name)
    except ModelError:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # then the first error stands
            folder = Path(name).expanduser()
            pickles = [path.name for pattern in PICKLES for path in folder.glob(pattern)] if folder.is_dir() else []
            if pickles and not any(folder.glob("*.safetensors")):
                message = f"only pickled weights ({pickles[0]}), which can run code and are never read"
                raise ModelError(message, where=name, hint="use a model with safetensors") from None
        raise


def _read_json(path: Path, name: str) -> dict[str, Any]:
    text = _read_text(path, name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"the model's {path.name} is not valid JSON"
        raise ModelError(message, where=name, hint="pull the model again, or use another") from error
    if not isinstance(value, dict):
        raise ModelError(f"the model's {path.name} holds no object", where=name, hint=_ANOTHER_MODEL)
    return value


def _read_text(path: Path, name: str) -> str:
    try:
        size = path.stat().st_size
        if size > MOST_JSON_BYTES:
            message = f"the model's {path.name} has {size} bytes; at most {MOST_JSON_BYTES} are read"
            raise ModelError(message, where=name, hint=_ANOTHER_MODEL)
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise ModelError(f"the model's {path.name} is missing", where=name, hint=_ANOTHER_MODEL) from error
    except UnicodeDecodeError as error:
        message = f"the model's {path.name} is not UTF-8"
        raise ModelError(message, where=name, hint="pull the model again, or use another") from error
    except OSError as error:
        message = f"the model's {path.name} cannot be read: {(error.strerror or str(error)).lower()}"
        raise ModelError(message, where=name, hint="check its permissions") from error


def _quantize(model: Any, config: dict[str, Any], name: str, bits: int) -> None:
    import mlx.nn as nn

    if "quantization" in config or "quantization_config" in config:
        hint = "remove student.quantize, or use the float version of the model"
        raise ModelError("the model is quantized already", where=name, hint=hint)
    choose = getattr(model, "quant_predicate", None)

    def settings(path: str, module: Any) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized"):
            return False
        asked = choose(path, module) if choose is not None else True
        wanted = {"bits": bits, **(asked if isinstance(asked, dict) else {})}
        sizes = [wanted.get("group_size", GROUP_SIZES[0]), *GROUP_SIZES]
        fitting = [size for size in sizes if module.weight.shape[-1] % size == 0]
        return {**wanted, "group_size": fitting[0]} if asked and fitting else False

    nn.quantize(model, class_predicate=settings)
    if not any(hasattr(module, "scales") for _, module in model.named_modules()):
        message = f"no layer is wide enough to be quantized in groups of {GROUP_SIZES[-1]}"
        raise ModelError(message, where=name, hint="remove student.quantize")
    config["quantization"] = {"bits": bits, "group_size": GROUP_SIZES[0]}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
