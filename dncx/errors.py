"""Errors that a person can mend: the command line shows their message and no stack trace."""


class UsageError(ValueError):
    """What was asked for cannot be done; nothing was written or changed. Exit code 2."""


class TrainingError(RuntimeError):
    """Training had to stop; what was kept is named in the message. Exit code 1."""
