"""Standard output, whose terminal or reader may go away. No JAX here."""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from typing import Any


class Output:
    """A stream that discards what nobody reads any more, instead of failing; `lost` says so."""

    def __init__(self, stream: Any):
        # rich puts a stream of its own in the place of this one while there is a bar.
        self._stream = getattr(stream, "rich_proxied_file", stream)
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text, unless nobody reads it."""
        with self._lasting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes, unless nobody reads."""
        with self._lasting():
            self._stream.flush()

    @contextlib.contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.lost = True
            discard(self._stream)


_FAILING = ("strict", "surrogateescape")  # error handlers of Python that raise


def replace_unprintable(*streams: Any) -> None:
    """Lets streams write characters that their encoding does not have as escapes.

    Otherwise a run directory with an umlaut would end a command on an ASCII terminal, and a file
    name that is not UTF-8 would end it on every terminal.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _FAILING:
            stream.reconfigure(errors="backslashreplace")


def discard(stream: Any) -> None:
    """Sends a stream to /dev/null, so that closing it with unwritten text is no error."""
    try:
        file = stream.fileno()
    except io.UnsupportedOperation:  # not a file of the system, so nothing is unwritten
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file)
    os.close(nowhere)
