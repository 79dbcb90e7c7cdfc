"""The lock that lets only one process at a time train in a run directory."""

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from dncx.errors import UsageError

LOCK = "lock"


def is_locked(folder: Path) -> bool:
    """Whether a process trains in a folder; this tests the lock briefly and changes nothing."""
    if not (folder / LOCK).is_file():
        return False
    with (folder / LOCK).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Locks:
    """Folders that only this process uses, until it ends for any reason.

    The lock belongs to the operating system (flock on a file in the folder), so it does not outlast
    a crash. It also works across machines if their shared disk supports locks; NFS does since
    version 4.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._held: dict[Path, int] = {}

    def __enter__(self) -> "Locks":
        return self

    def __exit__(self, *_: object) -> None:
        for path, file in self._held.items():
            path.unlink(missing_ok=True)
            os.close(file)

    def take(self, folders: Iterable[Path]) -> None:
        """Locks the folders that exist.

        Raises:
          UsageError: if another process has locked one; the message names the process.
        """
        for folder in folders:
            path = folder.resolve() / LOCK
            if folder.is_dir() and path not in self._held:
                self._held[path] = self._take(path)

    def _take(self, path: Path) -> int:
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(file, 200).decode(errors="replace").strip()
                os.close(file)
                raise UsageError(
                    f"{path.parent} is in use: {holder or 'another process'} is training there. "
                    "Wait for it, stop it, or use another --run_dir."
                ) from None
            except OSError as error:
                self._say(f"warning: {path.parent} cannot be locked ({error.strerror})")
                return file
            if _is_at(file, path):  # the previous process has not removed it in the meantime
                os.truncate(file, 0)
                _sign(file)
                return file
            os.close(file)


def _sign(file: int) -> None:
    """Writes which process has the lock. On a full disk, the lock works without this."""
    try:
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
