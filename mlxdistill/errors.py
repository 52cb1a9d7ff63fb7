"""What a user can mend.

    MlxDistillError          exit 1   something failed; the message says what, `where`, and `hint` what to do
    ├── UsageError           exit 2   the command line asks for something that cannot be
    │   └── ConfigError      exit 2   the configuration is wrong; carries every problem found, not only the first
    ├── DataError            exit 1   a file of rows is missing, empty or malformed
    ├── ModelError           exit 1   a model is missing, damaged or of an unsupported kind
    ├── WorkerError          exit 1   a model's process died; the message holds the last thing it said
    ├── NetworkBlockedError  exit 1   something tried to reach the network outside `mlxdistill pull`
    └── Interrupted          exit 130 the user asked to stop; everything answered so far is kept

Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MlxDistillError(Exception):
    """An error that the user can mend.

    Args:
        message: one line saying what is wrong.
        where: the place: `file:line`, a key path, a row id.
        hint: one line saying what to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not unpickle by default, and these cross process borders.
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(kind: type[MlxDistillError], message: str, state: dict[str, object]) -> MlxDistillError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class UsageError(MlxDistillError):
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: its place (`file:line`, flag or variable), what, and the mend."""

    where: str
    message: str
    hint: str | None = None


class ConfigError(UsageError):
    """Every problem of a configuration at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        super().__init__(first.message, where=first.where, hint=first.hint)
        self.problems = tuple(problems)


class DataError(MlxDistillError):
    pass


class ModelError(MlxDistillError):
    pass


class WorkerError(MlxDistillError):
    pass


class NetworkBlockedError(MlxDistillError):
    pass


class Interrupted(MlxDistillError):
    exit_code = 130
