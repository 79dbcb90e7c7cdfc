"""Standard output, whose terminal or reader may go away. No JAX here."""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from typing import Any


class Output:
    """A stream in which what nobody reads any longer is lost, and no error; `lost` says so."""

    def __init__(self, stream: Any):
        # The one below what rich puts in its place while there is a bar.
        self._stream = getattr(stream, "rich_proxied_file", stream)
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """All of it, or nothing."""
        with self._lasting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """If there is somebody to read."""
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


_FAILING = ("strict", "surrogateescape")  # ways of Python's streams that raise errors


def replace_unprintable(*streams: Any) -> None:
    """Lets streams write characters that their encoding lacks, or that are none, as escapes.

    Otherwise a run directory with an umlaut would end a command on an ASCII terminal, and a file
    name that is not UTF-8 would end it on any.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _FAILING:
            stream.reconfigure(errors="backslashreplace")


def discard(stream: Any) -> None:
    """Leads a stream to nowhere, so that what it still holds is no error when it is closed."""
    try:
        file = stream.fileno()
    except io.UnsupportedOperation:  # it is none of the system's, and holds nothing
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file)
    os.close(nowhere)
