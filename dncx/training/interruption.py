"""Ctrl-C, SIGTERM, a closed terminal: the first asks training to stop, the second ends it."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "hang-up"}


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and did; the message says how it goes on."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = exit_code(number)


def exit_code(number: int) -> int:
    """What a process ended by a signal leaves: 130 for Ctrl-C, 143 for SIGTERM, 129 for hang-up."""
    return 128 + number


class Interruption:
    """While it is open, `signal` is the number of the first signal, once one has come.

    A second one ends the process at once, but for a hang-up: of these a closed terminal sends one,
    and the shell in it another. Only the main thread may receive signals: elsewhere nothing is
    changed, nor is a signal that is ignored, as a hang-up is under nohup.

    That nobody reads what is said is a hang-up, too, in any thread.
    """

    def __init__(
        self, say: Callable[[str], None], nobody_reads: Callable[[], bool] = lambda: False
    ):
        self._first: int | None = None
        self._say = say
        self._nobody_reads = nobody_reads
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {n: old for n, old in handlers.items() if old is not signal.SIG_IGN}
        if not self._before:
            return self
        # Python runs its handlers between its own instructions only. The bytes in this pipe come
        # at once, even while the main thread waits for the device or the compiler.
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup = signal.set_wakeup_fd(self._writing)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        for number in self._before:
            signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writing)
        self._thread.join()
        os.close(self._reading)

    @property
    def signal(self) -> int | None:
        """Its number, once one has come."""
        hung_up = self._nobody_reads() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        return self._first or (signal.SIGHUP if hung_up else None)

    def _remember(self, number: int, _: object) -> None:
        self._first = self._first or number

    def _watch(self) -> None:
        """Waits for signals, the first to tell, the second to obey; ends with the pipe."""
        told = False
        while number := os.read(self._reading, 1):
            if number[0] not in self._before:
                continue
            if not told:
                name = SIGNALS[signal.Signals(number[0])]
                self._say(f"{name}: stopping after this step; a second one ends at once, unsaved")
            elif number[0] != signal.SIGHUP:
                os._exit(exit_code(number[0]))
            told = True
