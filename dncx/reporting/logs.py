"""Shows the log messages of dncx on the console. No JAX here."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def log_shown(show: Callable[[str], object]) -> Iterator[None]:
    """Shows dncx's log messages, for example that it builds the kernel, which takes a while."""
    logger, handler = logging.getLogger("dncx"), _Handler(show)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # other libraries add handlers that would show everything again
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, show: Callable[[str], object]):
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())
