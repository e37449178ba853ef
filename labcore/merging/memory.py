"""How much memory a piece of work takes: anonymous memory, sampled while it runs."""

import threading
from pathlib import Path
from types import TracebackType

_EVERY = 0.004  # seconds


def anonymous(process: int | str = "self") -> int:
    """Bytes of a process's anonymous memory (mapped files do not count); 0 where unknown."""
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:  # no such file system, or the process has ended
        return 0
    for line in text.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class PeakMemory:
    """Context manager whose ``peak`` is how far memory rose above where it stood, in bytes."""

    def __init__(self) -> None:
        self.peak = 0

    def __enter__(self) -> "PeakMemory":
        self._start = anonymous()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._look()
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(_EVERY):
            self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, anonymous() - self._start)
