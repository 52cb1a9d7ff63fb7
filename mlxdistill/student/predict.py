"""Class probabilities from a student.

The same rule as the teacher's (`tasks/trie.py`): the product along a label's path of the model's probabilities, over
the whole vocabulary, normalised over the labels. Labels of one token each need one forward pass per row, with the head
at its last position only. Longer ones go on from the prompt's keys and values where the model's architecture allows it,
which is tried once, and with the prompt run again where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.student.batches import common_beginning, even_batches, padded_length, token_matrix
from mlxdistill.student.continuation import ContinuedLayer, RecordedLayer
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.prefix import SharedPrefix, go_on
from mlxdistill.tasks.trie import Node, Trie

MOST_ROWS = 64
CONTINUED_SHARE = 8
PROBE_TOLERANCE = 1e-3

NodeScores = tuple[Node, NDArray[np.float64]]


class LabelScorer:
    """Scores every label of a task for prompts.

    Args:
        layers: how many layers the model has.
        batch_tokens: most positions of one forward pass over prompts.
        multiple: of which padded lengths are multiples.
        beginning: what every prompt is expected to begin with; the tokens in which one differs are run with its own.

    Attributes:
        continues: whether labels of several tokens go on from their prompt's keys and values.
    """

    def __init__(
        self,
        head: SupervisedHead,
        layers: int,
        trie: Trie,
        *,
        batch_tokens: int,
        multiple: int,
        beginning: Sequence[int] = (),
    ) -> None:
        self._head = head
        self._layers = layers
        self._trie = trie
        self._batch_tokens = batch_tokens
        self._multiple = multiple
        self._runs = _runs(trie)
        self._beginning = tuple(beginning)
        self._prefix = SharedPrefix(head, layers, ())
        self._before: list[RecordedLayer] | None = None
        self.continues = len(trie.nodes) > 1 and self._probe()

    def score(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Class probabilities [prompts, labels] for prompts of tokens that end where the answer begins."""
        scores = np.zeros((len(prompts), len(self._trie.paths)))
        shared = self._share(prompts)
        lengths = [len(prompt) - shared for prompt in prompts]
        for batch in even_batches(lengths, self._batch_tokens, MOST_ROWS, self._multiple):
            rows = [prompts[row][shared:] for row in batch.rows]
            for node, logarithms in self._continued(rows) if self.continues else self._repeated(rows):
                for column, branch in enumerate(node.branches):
                    for label in branch.labels:
                        scores[list(batch.rows), label] += logarithms[:, column]
        likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(likelihoods / likelihoods.sum(axis=1, keepdims=True))

    def _share(self, prompts: Sequence[Sequence[int]]) -> int:
        """Runs what all the prompts begin with, where it was not the same the last time; returns its tokens."""
        import mlx.core as mx

        shared = common_beginning([self._beginning, *(tuple(prompt[:-1]) for prompt in prompts)])
        if self._prefix.tokens != shared:
            self._prefix = SharedPrefix(self._head, self._layers, self._beginning[:shared])
            self._before = self._prefix.run()
            mx.eval([(layer.keys, layer.values) for layer in self._before or []])
            if not self._prefix.supported:
                self._beginning = ()
        return self._prefix.tokens

    def _repeated(self, prompts: Sequence[Sequence[int]]) -> Iterator[NodeScores]:
        """Runs prompt and path together, once for each path. Prompts without what they share."""
        import mlx.core as mx

        for path, nodes in self._runs:
            rows = [(*prompt, *path) for prompt in prompts]
            length = padded_length(max(map(len, rows)), self._multiple)
            last = [number * length + len(prompt) - 1 for number, prompt in enumerate(prompts)]
            positions = [place + len(node.path) for node in nodes for place in last]
            logits = self._head(mx.array(token_matrix(rows, length)), mx.array(positions), go_on(self._before))
            yield from _branch_scores(nodes, logits.reshape(len(nodes), len(prompts), -1))

    def _continued(self, prompts: Sequence[Sequence[int]]) -> Iterator[NodeScores]:
        """Runs the prompts once, and the paths from there, some at a time. Prompts without what they share."""
        import mlx.core as mx

        length = padded_length(max(map(len, prompts)), self._multiple)
        recorded = go_on(self._before) or [RecordedLayer() for _ in range(self._layers)]
        last = [number * length + len(prompt) - 1 for number, prompt in enumerate(prompts)]
        logits = self._head(mx.array(token_matrix(prompts, length)), mx.array(last), recorded)
        yield from _branch_scores([self._trie.nodes[0]], logits[None])
        lengths = mx.array([self._prefix.tokens + len(prompt) for prompt in prompts])
        at_once = max(1, CONTINUED_SHARE * self._batch_tokens // (len(prompts) * length))
        for start in range(0, len(self._runs), at_once):
            runs = self._runs[start : start + at_once]
            caches = [ContinuedLayer(layer, lengths, len(runs)) for layer in recorded]
            paths = token_matrix([path for path, _ in runs], max(len(path) for path, _ in runs))
            nodes = [(number, node) for number, (_, found) in enumerate(runs) for node in found if node.path]
            starts = np.arange(len(prompts)) * paths.size
            positions = [starts + number * paths.shape[1] + len(node.path) - 1 for number, node in nodes]
            inputs = mx.array(np.tile(paths, (len(prompts), 1)))
            logits = self._head(inputs, mx.array(np.concatenate(positions)), caches)
            yield from _branch_scores([node for _, node in nodes], logits.reshape(len(nodes), len(prompts), -1))

    def _probe(self) -> bool:
        """Whether going on gives what running everything again gives, on prompts of different lengths."""
        prompts = [(1, 2, 3, 4, 5, 6, 7), (7, 6, 5)]
        try:
            continued = {node.path: scores for node, scores in self._continued(prompts)}
        except (ValueError, TypeError, AttributeError, IndexError, RuntimeError):
            return False
        return all(
            bool(np.all(np.abs(continued[node.path] - scores) <= PROBE_TOLERANCE * np.maximum(1, np.abs(scores))))
            for node, scores in self._repeated(prompts)
        )


def best_labels(probabilities: NDArray[Any], names: Sequence[str]) -> list[str]:
    """The most probable label of each row; of equals, the first."""
    return [names[number] for number in probabilities.argmax(axis=1)]


def _branch_scores(nodes: Sequence[Node], logits: Any) -> Iterator[NodeScores]:
    """For each node the log-probabilities [rows, branches] of its branches, from logits [nodes, rows, vocabulary]."""
    import mlx.core as mx

    totals = mx.logsumexp(logits, axis=-1)
    branches = [
        logits[number][:, mx.array([branch.token for branch in node.branches])] for number, node in enumerate(nodes)
    ]
    mx.eval(totals, branches)
    for node, branch, total in zip(nodes, branches, totals, strict=True):
        yield node, np.array(branch, np.float64) - np.array(total, np.float64)[:, None]


def _runs(trie: Trie) -> list[tuple[tuple[int, ...], list[Node]]]:
    """The paths to run, each with the nodes on it that no run before has scored."""
    runs: list[tuple[tuple[int, ...], list[Node]]] = []
    done: set[tuple[int, ...]] = set()
    for deepest in trie.deepest:
        path = deepest.path
        nodes = [node for node in trie.nodes if node.path == path[: len(node.path)] and node.path not in done]
        done.update(node.path for node in nodes)
        runs.append((path, nodes))
    return runs
