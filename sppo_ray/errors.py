"""The exceptions of the project. Each message names the file, row or key and the remedy.

A job ends with exit status 2 for a `UserError` (found before any engine starts) and 1 for anything else.
All carry one string, so they survive pickling between processes.
"""

import textwrap


class SppoError(Exception):
    """Root of every exception that the project raises itself."""


class UserError(SppoError):
    """The input is at fault; nothing was started."""


class ConfigError(UserError):
    """A recipe, configuration file or override that cannot be used."""


class PromptError(UserError):
    """A prompt source that cannot be read, or a row of it that cannot be used."""


class ModelError(UserError):
    """A policy or judge folder that is not what the run needs."""


class RunFolderError(UserError):
    """A run folder that cannot be used: another run holds it, or it was made with another configuration."""


class ClusterError(UserError):
    """The cluster cannot hold what the configuration asks for."""


class RunFailed(SppoError):
    """The run started and cannot go on."""


class ReferenceMismatch(RunFailed):
    """The sampler's log-probabilities are not those of the trainer's policy on the same tokens."""


class SnapshotMismatch(RunFailed):
    """An engine holds another snapshot than the work asks for."""


class StorageError(RunFailed):
    """Storage that is full, read-only, forbidden, failing or out of reach. Nothing that was published is damaged."""


class DamagedFile(RunFailed):
    """A file of the run folder does not match its digest."""


class EngineFailed(RunFailed):
    """An engine is beyond repair: its pool replaces it."""


class BlockFailed(RunFailed):
    """A piece of work failed on engine after engine."""


class RunStopped(RunFailed):
    """The run was asked to stop. The same command continues it."""

    def __init__(self, message: str = "stopped on request; the same command continues the run") -> None:
        super().__init__(message)


class JudgeError(SppoError):
    """A judge cannot compare the responses to a prompt; the message names judge and prompt."""


class JudgeUnavailable(RunFailed):
    """A judge can compare nothing for now: its endpoint is down, or its budget is spent. A run pauses."""


class PoolAsleep(RunFailed):
    """No engine of a pool serves at the moment."""


def one_line(error: Exception) -> str:
    """What a library's exception says, short enough for a message of our own."""
    words = " ".join(str(error).split())
    if not words or isinstance(error, LookupError | TypeError | AttributeError):  # of little help without their kind
        words = f"{type(error).__name__}: {words}"
    return textwrap.shorten(words, 300, placeholder=" ...")


def own_cause(error: BaseException) -> BaseException:
    """The project's own exception among the causes of an error, if there is one, else the error."""
    cause: BaseException | None = error
    while cause is not None:
        for one in (getattr(cause, "cause", None), cause):
            if isinstance(one, SppoError):
                return one
        cause = getattr(cause, "cause", None) or cause.__cause__
    return error
