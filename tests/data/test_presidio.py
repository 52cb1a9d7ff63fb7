"""Names by presidio and a spaCy pipeline in a folder; without them, an error that says what to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mlxdistill.data.redaction import Redactor, Span
from mlxdistill.data.redaction.presidio import PresidioFinder, check_presidio
from mlxdistill.errors import ModelError

THERE = importlib.util.find_spec("presidio_analyzer") is not None and importlib.util.find_spec("spacy") is not None
needs_presidio = pytest.mark.skipif(not THERE, reason="the extra `pii` (presidio-analyzer) is not installed")


@pytest.mark.skipif(THERE, reason="presidio is installed")
def test_without_presidio_the_error_names_the_command() -> None:
    with pytest.raises(ModelError, match="presidio is not installed") as caught:
        check_presidio("en_core_web_lg")
    assert caught.value.hint == 'pip install "mlxdistill[pii]"'


@needs_presidio
@pytest.mark.parametrize("name", ["no_such_pipeline", "folder"])
def test_a_missing_pipeline_is_an_error_with_the_command_and_no_download(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match="no installed package and no folder") as caught:
        PresidioFinder(name)
    assert "python -m spacy download" in (caught.value.hint or "")


@needs_presidio
def test_a_pipeline_from_a_folder_finds_names(tmp_path: Path) -> None:
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns(
        [{"label": "PERSON", "pattern": "Jane Roe"}, {"label": "GPE", "pattern": "Springfield"}]
    )
    nlp.to_disk(tmp_path / "pipeline")
    finder = PresidioFinder(str(tmp_path / "pipeline"))
    text = "Jane Roe lives in Springfield"
    assert sorted(finder.find([text])[0]) == [Span(0, 8, "name"), Span(18, 29, "location")]
    assert len(finder.find(["Jane Roe " * 15_000])[0]) == 15_000
    redactor = Redactor(stand_ins=True, finders=[finder])
    redacted = redactor.redact(f"{text}: jane@corp.com")
    assert redacted.counts == {"name": 1, "location": 1, "email": 1}
    assert redactor.redact(redacted.text).counts == {}
