"""Class probabilities from a student.

The same rule as the teacher's (`tasks/trie.py`): the product along a label's path of the model's probabilities, over
the whole vocabulary, normalised over the labels. Labels of one token each need one forward pass per row, with the head
at its last position only. Longer ones go on from the prompt's keys and values where the model's architecture allows it,
which is tried once, and with the prompt run again where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.student.batches import even_batches, padded_length, token_matrix
from mlxdistill.student.continuation import ContinuedLayer, RecordedLayer
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.paths import Span, trie_paths
from mlxdistill.tasks.trie import Trie

MOST_ROWS = 64
CONTINUED_SHARE = 8
PROBE_TOLERANCE = 1e-3

Branches = NDArray[np.float64]  # log-probabilities [branches, rows]


class LabelScorer:
    """Scores every label of a task for prompts.

    Args:
        layers: how many layers the model has.
        batch_tokens: most positions of one forward pass over prompts.
        multiple: of which padded lengths are multiples.

    Attributes:
        continues: whether labels of several tokens go on from their prompt's keys and values.
    """

    def __init__(self, head: SupervisedHead, layers: int, trie: Trie, *, batch_tokens: int, multiple: int) -> None:
        self._head = head
        self._layers = layers
        self._batch_tokens = batch_tokens
        self._multiple = multiple
        self._paths = trie_paths(trie)
        self.continues = len(trie.nodes) > 1 and self._probe()

    def score(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Class probabilities [prompts, labels] for prompts of tokens that end where the answer begins."""
        scores = np.zeros((len(prompts), self._paths.labels))
        for batch in even_batches([len(prompt) for prompt in prompts], self._batch_tokens, MOST_ROWS, self._multiple):
            rows = [prompts[row] for row in batch.rows]
            found = self._continued(rows) if self.continues else self._repeated(rows)
            scores[list(batch.rows)] = self._paths.label_scores(found)
        likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(likelihoods / likelihoods.sum(axis=1, keepdims=True))

    def _repeated(self, prompts: Sequence[Sequence[int]]) -> Branches:
        """Runs prompt and path together, once for each path."""
        import mlx.core as mx

        paths = self._paths
        found = np.empty((paths.branches, len(prompts)))
        lengths = np.array([len(prompt) for prompt in prompts])
        for number, path in enumerate(paths.paths):
            length = padded_length(int(lengths.max()) + len(path), self._multiple)
            last = np.arange(len(prompts)) * length + lengths - 1
            span = paths.span(number, number + 1)
            positions = paths.depths[span.nodes, None] + last
            inputs = mx.array(token_matrix([(*prompt, *path) for prompt in prompts], length))
            self._read(self._head(inputs, mx.array(positions.ravel())), span, found)
        return found

    def _continued(self, prompts: Sequence[Sequence[int]]) -> Branches:
        """Runs the prompts once, and the paths from there, some at a time."""
        import mlx.core as mx

        paths = self._paths
        found = np.empty((paths.branches, len(prompts)))
        length = padded_length(max(map(len, prompts)), self._multiple)
        recorded = [RecordedLayer() for _ in range(self._layers)]
        last = [number * length + len(prompt) - 1 for number, prompt in enumerate(prompts)]
        self._read(self._head(mx.array(token_matrix(prompts, length)), mx.array(last), recorded), paths.root, found)
        lengths = mx.array([len(prompt) for prompt in prompts])
        at_once = max(1, CONTINUED_SHARE * self._batch_tokens // (len(prompts) * length))
        for first in range(0, len(paths.paths), at_once):
            tokens = paths.matrix(first, first + at_once)
            caches = [ContinuedLayer(layer, lengths, len(tokens)) for layer in recorded]
            span = paths.span(first, first + len(tokens), root=False)
            places = (paths.places[span.nodes] - first) * tokens.shape[1] + paths.depths[span.nodes] - 1
            positions = places[:, None] + np.arange(len(prompts)) * tokens.size
            inputs = mx.array(np.tile(tokens, (len(prompts), 1)))
            self._read(self._head(inputs, mx.array(positions.ravel()), caches), span, found)
        return found

    def _read(self, logits: Any, span: Span, found: Branches) -> None:
        """Puts the log-probabilities of a span's branches into `found`, from logits [nodes * rows, vocabulary]."""
        import mlx.core as mx

        nodes = self._paths.sources[span.branches] - span.nodes.start
        rows = np.arange(found.shape[1])
        at = mx.array(nodes[:, None] * len(rows) + rows)
        branches = logits[at, mx.array(self._paths.tokens[span.branches, None])]
        totals = mx.logsumexp(logits, axis=-1)
        mx.eval(totals, branches)
        of_nodes = np.array(totals, np.float64).reshape(-1, len(rows))
        found[span.branches] = np.array(branches, np.float64) - of_nodes[nodes]

    def _probe(self) -> bool:
        """Whether going on gives what running everything again gives, on prompts of different lengths."""
        prompts = [(1, 2, 3, 4, 5, 6, 7), (7, 6, 5)]
        try:
            continued = self._continued(prompts)
        except (ValueError, TypeError, AttributeError, IndexError, RuntimeError):
            return False
        repeated = self._repeated(prompts)
        return bool(np.all(np.abs(continued - repeated) <= PROBE_TOLERANCE * np.maximum(1, np.abs(repeated))))


def best_labels(probabilities: NDArray[Any], names: Sequence[str]) -> list[str]:
    """The most probable label of each row; of equals, the first."""
    return [names[number] for number in probabilities.argmax(axis=1)]
