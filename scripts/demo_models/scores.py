"""What the models are worth on the demo's rows: the teacher, the untaught student base, and TF-IDF for orientation.

Nothing here feeds back into training: settings were chosen on held-out teacher cores and held-out source cores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from demo_rows import INSTRUCTION, LABELS, Core, Row
from tokenizers import Tokenizer

from .bpe import TURN_END, TURN_START, template_ids, text_ids
from .llama import Llama
from .teaching import Prompt, label_probabilities

Scores = dict[str, float]


def student_prompt(tokenizer: Tokenizer) -> Prompt:
    """The shorter prompt the demo gives its student."""
    end = template_ids(tokenizer, TURN_END)
    return Prompt(
        head=template_ids(tokenizer, f"{TURN_START}user\n{INSTRUCTION}\nAnswer with one of: {', '.join(LABELS)}.\n\n"),
        tail=template_ids(tokenizer, f"{TURN_END}\n{TURN_START}assistant\n"),
        answers={label: text_ids(tokenizer, label) + end for label in LABELS},
    )


def probabilities(model: Llama, tokenizer: Tokenizer, texts: Sequence[str], prompt: Prompt) -> np.ndarray:
    """Class probabilities, (texts, labels)."""
    return label_probabilities(model, [text_ids(tokenizer, text) for text in texts], prompt).numpy()


def binary_scores(gold: Sequence[str], chances: np.ndarray) -> Scores:
    """Accuracy, recall of each label, their mean, and the mean negative log-likelihood."""
    names = np.array(list(LABELS))
    truth, said = np.array(gold), names[chances.argmax(axis=1)]
    recalls = {f"recall_{label}": float((said[truth == label] == label).mean()) for label in names}
    column = np.array([list(LABELS).index(label) for label in gold])
    likelihood = chances[np.arange(len(gold)), column]
    return {
        "rows": len(gold),
        "accuracy": float((said == truth).mean()),
        "balanced_accuracy": float(np.mean(list(recalls.values()))),
        "nll": float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
        **recalls,
    }


def held_out_scores(
    model: Llama, tokenizer: Tokenizer, cores: Sequence[Core], texts: Sequence[str]
) -> dict[str, float]:
    """Scores on messages of cores the teacher was not taught, with the hard `other` ones apart."""
    chances = probabilities(model, tokenizer, texts, Prompt.of(tokenizer))
    found = binary_scores([core.label for core in cores], chances)
    hard = np.array([core.hard for core in cores])
    found["recall_hard_other"] = float((chances[hard].argmax(axis=1) == list(LABELS).index("other")).mean())
    return found


def tfidf_scores(source: Sequence[Row], taught: Sequence[str], test: Sequence[Row]) -> Scores:
    """TF-IDF and logistic regression trained on the teacher's labels of the source rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=1000),
    )
    model.fit([row.text for row in source], list(taught))
    order = [list(model.classes_).index(label) for label in LABELS]
    chances = model.predict_proba([row.text for row in test])[:, order]
    return binary_scores([row.label for row in test], chances)


def demo_scores(teacher: Llama, student: Llama, tokenizer: Tokenizer, sets: dict[str, list[Row]]) -> dict[str, object]:
    """Scores on every demo set, once."""
    teacher_prompt = Prompt.of(tokenizer)
    found: dict[str, object] = {}
    chances = {
        name: probabilities(teacher, tokenizer, [row.text for row in rows], teacher_prompt)
        for name, rows in sets.items()
    }
    names = list(LABELS)
    taught = [names[index] for index in chances["messages"].argmax(axis=1)]
    for name, rows in sets.items():
        gold = [row.label for row in rows]
        found[f"teacher:{name}"] = binary_scores(gold, chances[name])
        if name != "messages":
            base = probabilities(student, tokenizer, [row.text for row in rows], student_prompt(tokenizer))
            found[f"student_base:{name}"] = binary_scores(gold, base)
            if len(set(taught)) > 1:
                found[f"tfidf_logreg:{name}"] = tfidf_scores(sets["messages"], taught, rows)
    return found
