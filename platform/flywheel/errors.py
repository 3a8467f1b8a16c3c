"""Every error a user of Flywheel can meet.

::

    FlywheelError            something failed; the message says what to do next (exit code 1)
    ├── UsageError           the call, a flag or a file given by the user is wrong (exit code 2)
    │   ├── ConfigError      a configuration file does not validate
    │   └── InputError       a line of an input file does not validate
    ├── BusyError            another process holds what this one needs (a port, a turn)
    │   └── LeaseHeldError   a lease is held by somebody who is still alive
    ├── EnvironmentProblem   the machine lacks something: a compiler, disk space, a package
    ├── LakeError            the lake could not be read or written
    │   ├── AlreadyExistsError   a put-if-absent lost: the object is there already
    │   └── NotFoundInLakeError  the object or table is not there
    ├── ModelError           a model folder is unusable (no tokenizer, not safetensors, ...)
    ├── EngineError          an inference engine could not be started or did not answer
    ├── CaptureError         an event could not be made durable
    ├── LeakError            personal data was found where only surrogates may be
    ├── ContaminationError   a dataset holds what models are tested with
    └── TrainingError        a training run ended without a usable model

Messages are one sentence about what happened and one about what to do, without a stack trace.
"""

from __future__ import annotations


class FlywheelError(Exception):
    """Root of the tree. ``exit_code`` is what the command line exits with."""

    exit_code = 1


class UsageError(FlywheelError):
    """The user's call cannot be carried out as it was made."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or value is invalid."""


class InputError(UsageError):
    """A line of an input file is invalid; names file, line and field."""

    def __init__(self, file: str, line: int, field: str, reason: str) -> None:
        self.file, self.line, self.field, self.reason = file, line, field, reason
        super().__init__(f"{file}, line {line}, field '{field}': {reason}")


class BusyError(FlywheelError):
    """Another process holds a resource that only one may hold."""


class LeaseHeldError(BusyError):
    """A lease is held by somebody else, who is alive; the message names who, and since when."""


class EnvironmentProblem(FlywheelError):  # noqa: N818  (EnvironmentError is Python's own name)
    """The machine lacks something that the work needs."""


class LakeError(FlywheelError):
    """Reading or writing the lake failed."""


class AlreadyExistsError(LakeError):
    """A put-if-absent found the object already there."""


class NotFoundInLakeError(LakeError):
    """An object or a table is not in the lake."""


class ModelError(FlywheelError):
    """A model folder cannot be used."""


class EngineError(FlywheelError):
    """An inference engine is missing, failed to start, or failed to answer."""


class CaptureError(FlywheelError):
    """An event could not be made durable; it was not acknowledged."""


class LeakError(FlywheelError):
    """Personal data was found in a place that may only hold surrogates."""


class ContaminationError(FlywheelError):
    """A dataset overlaps with the cases that decide about the model made of it."""


class TrainingError(FlywheelError):
    """A training run did not produce a model."""
