"""Standard output, whose terminal or reader may disappear. No JAX here."""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from typing import Any


class Output:
    """A stream that discards output after its reader is gone, and then sets `lost`."""

    def __init__(self, stream: Any):
        # rich replaces this stream with its own while there is a progress bar.
        self._stream = getattr(stream, "rich_proxied_file", stream)
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text, unless the reader is gone."""
        with self._lasting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, unless the reader is gone."""
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
    """Makes streams write characters that their encoding lacks as escapes.

    Otherwise, a run directory with an umlaut would end a command on an ASCII terminal, and a file
    name that is not UTF-8 would end it on every terminal.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _FAILING:
            stream.reconfigure(errors="backslashreplace")


def discard(stream: Any) -> None:
    """Redirects a stream to /dev/null, so that closing it with unwritten text is not an error."""
    try:
        file = stream.fileno()
    except io.UnsupportedOperation:  # not a file of the system, so nothing is unwritten
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file)
    os.close(nowhere)
