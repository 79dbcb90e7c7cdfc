"""Ctrl-C, SIGTERM and closed terminals: the first stops training, the second ends the process."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

_TOGETHER = 0.3  # seconds; nobody presses Ctrl-C twice in less
SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "hang-up"}


class Interrupted(KeyboardInterrupt):
    """Training was interrupted and has saved a checkpoint; the message says how to resume."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = exit_code(number)


def exit_code(number: int) -> int:
    """The exit code after a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for a hang-up."""
    return 128 + number


class Interruption:
    """Catches signals while it is open; `signal` is the number of the first one.

    A second signal ends the process at once, unless it comes together with the first: `timeout` and
    some schedulers send one to a process and another to its group. A second hang-up does not: a
    closed terminal sends one, and the shell in it sends another. Ignored signals stay ignored, for
    example a hang-up under nohup. Only the main thread can receive signals, so other threads are
    not affected.

    A terminal or a pipe that is no longer read counts as a hang-up, in any thread.
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
        # Python runs its handlers only between its own instructions, and the main thread may spend
        # minutes in the compiler. The bytes in this pipe arrive at once, so another thread can
        # report the first signal and obey the second.
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
        """The number of the first signal; None if there was none."""
        hung_up = self._nobody_reads() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        return self._first or (signal.SIGHUP if hung_up else None)

    def _remember(self, number: int, _: object) -> None:
        self._first = self._first or number

    def _watch(self) -> None:
        """Reports the first signal, and ends the process at the second; stops with the pipe."""
        answered = 0.0  # when
        while number := os.read(self._reading, 1):
            if number[0] not in self._before:
                continue
            if not answered:
                name = SIGNALS[signal.Signals(number[0])]
                self._say(f"{name}: stopping after this step; repeat it to end without saving")
                answered = time.monotonic()
            elif number[0] != signal.SIGHUP and time.monotonic() - answered > _TOGETHER:
                os._exit(exit_code(number[0]))
