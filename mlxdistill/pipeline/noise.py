"""The filters that find likely wrong labels, as the configuration wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.filters.candidate import Filter
from mlxdistill.filters.dynamics import Dynamics, read_courses
from mlxdistill.filters.noise import Noise
from mlxdistill.pipeline.stage import Context
from mlxdistill.pipeline.train import predict_request
from mlxdistill.platform.models import model_fingerprint
from mlxdistill.rundir.files import file_sha256
from mlxdistill.student.embedding import embed


def noise_filters(context: Context) -> list[Filter]:
    """Those that are configured. Raises DataError where `filter.dynamics` has no record to go by."""
    config, labels = context.config.filter, context.task.names
    found: list[Filter] = []
    if config.dynamics is not None:
        courses = read_courses(context.run.dynamics)
        found.append(Dynamics(config.dynamics, config.noise_action, labels, courses))
    if config.noise is not None:
        features = partial(_student_states, context) if config.noise_features == "student" else None
        found.append(Noise(config.noise, config.noise_action, labels, config.noise_score, features, config.seed))
    return found


def noise_inputs(context: Context) -> Mapping[str, Any]:
    """What the filters depend on besides their keys."""
    config, path = context.config, context.run.dynamics
    found: dict[str, Any] = {}
    if config.filter.dynamics is not None:
        found["dynamics"] = file_sha256(path) if path.is_file() else None
    if config.filter.noise is not None and config.filter.noise_features == "student":
        request = predict_request(config, None)
        found["states"] = [
            *(model_fingerprint(request.model), request.quantize, request.max_tokens),
            *(request.prompt.fingerprint, request.labels),
        ]
    return found


def _student_states(context: Context, texts: Sequence[str]) -> NDArray[np.float32]:
    rows = [(str(place), text) for place, text in enumerate(texts)]
    return embed(predict_request(context.config, None), rows, context.reporter)
