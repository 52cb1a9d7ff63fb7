"""Names, organisations and locations by presidio (extra `pii`) and a spaCy pipeline that is on this machine.

Presidio would download the pipeline where it is missing, and its recognizer of e-mail addresses asks the network for a
list of domains: neither happens here. The pipeline is loaded by ourselves, and what patterns find is left to patterns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlxdistill.data.redaction.spans import Span
from mlxdistill.errors import ModelError

EXTRA = 'pip install "mlxdistill[pii]"'
LEAST_SCORE = 0.5
MOST_CHARACTERS = 100_000  # of a text at a time: what a pipeline holds of it grows with its length

_KINDS = {
    "PERSON": "name",
    "ORGANIZATION": "organisation",
    "LOCATION": "location",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
}
_IDS = ("AU", "CA", "DE", "ES", "FI", "IN", "IT", "KR", "PL", "SE", "SG", "TH", "TR", "UK", "US", "ZA")


class PresidioFinder:
    """Finds what presidio finds in texts of the pipeline's language.

    Args:
        pipeline: an installed package, or a folder that spaCy has written.

    Raises ModelError, with the command that mends it, where presidio or the pipeline is missing or cannot be loaded.
    """

    repeats = True

    def __init__(self, pipeline: str) -> None:
        nlp = _load(pipeline)
        self._language = nlp.lang
        self._analyzer = _analyzer(nlp)
        supported = self._analyzer.get_supported_entities(language=nlp.lang)
        self._kinds = {entity: kind for entity in supported if (kind := _kind(entity)) is not None}

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [list(self._spans(text)) for text in texts]

    def _spans(self, text: str) -> Iterator[Span]:
        for start, part in parts_of(text, MOST_CHARACTERS):
            results = self._analyzer.analyze(
                text=part, language=self._language, entities=list(self._kinds), score_threshold=LEAST_SCORE
            )
            for result in results:
                yield Span(start + result.start, start + result.end, self._kinds[result.entity_type])


def check_presidio(pipeline: str) -> None:
    """Raises ModelError where presidio or the pipeline is not there; loads neither."""
    from importlib.util import find_spec

    if find_spec("presidio_analyzer") is None or find_spec("spacy") is None:
        raise ModelError("presidio is not installed", where="data.redact_with", hint=EXTRA)
    path = Path(pipeline).expanduser()
    if not (path / "meta.json").is_file() and (path.exists() or "/" in pipeline or find_spec(pipeline) is None):
        raise _missing(pipeline)


def _load(pipeline: str) -> Any:
    check_presidio(pipeline)
    import spacy

    path = Path(pipeline).expanduser()
    try:
        return spacy.load(path if path.is_dir() else pipeline)
    except (OSError, ValueError, KeyError, ImportError) as error:
        message = f"the spaCy pipeline cannot be loaded: {' '.join(str(error).split())[:200]}"
        raise ModelError(message, where=pipeline, hint="give one that this version of spaCy has written") from error


def _missing(pipeline: str) -> ModelError:
    message = f"the spaCy pipeline {pipeline!r} is no installed package and no folder that spaCy has written"
    hint = "python -m spacy download en_core_web_lg (on a machine with network), or set data.redact_spacy to a folder"
    return ModelError(message, where="data.redact_spacy", hint=hint)


def _analyzer(nlp: Any) -> Any:
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

    engine = SpacyNlpEngine(
        models=[{"lang_code": nlp.lang, "model_name": nlp.meta["name"]}],
        ner_model_configuration=NerModelConfiguration(labels_to_ignore=[]),
    )
    engine.nlp = {nlp.lang: nlp}
    registry = RecognizerRegistry(supported_languages=[nlp.lang])
    registry.load_predefined_recognizers(languages=[nlp.lang], nlp_engine=engine)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[nlp.lang])


def _kind(entity: str) -> str | None:
    of_state = entity[:3].endswith("_") and entity[:2] in _IDS
    return _KINDS.get(entity) or ("national_id" if of_state else None)


def parts_of(text: str, most: int) -> Iterator[tuple[int, str]]:
    """The text in parts of at most so many characters, cut between words where there are any, each with its place."""
    start = 0
    while start < len(text):
        end = start + most
        if end < len(text):
            space = text.rfind(" ", start + most // 2, end)
            end = space if space > 0 else end
        yield start, text[start:end]
        start = end
