"""A worker process of the app: reads jobs from stdin, writes progress and results to stdout.

Started by :mod:`app.ui.jobs` as ``python -m app.worker``. A plain process and not
``multiprocessing``, whose children would import Streamlit's main script again. It ends when its
parent closes the pipe or dies.
"""

import os
import pickle
import queue
import sys
import threading
import traceback
from importlib import import_module
from typing import Any, BinaryIO

from labcore.assets import AssetError
from labcore.runs import Cancelled
from labcore.runtime import limit_threads

Message = tuple[Any, ...]
SPEAKING = (AssetError, ValueError, MemoryError)  # their message is written for people


def _listen(source: BinaryIO, jobs: "queue.Queue[Message]", stop: threading.Event) -> None:
    """Pass jobs on; a "stop" for the running job sets the flag that its progress reads."""
    while True:
        try:
            message = pickle.load(source)  # noqa: S301  from our own parent
        except (EOFError, OSError):
            os._exit(0)
        if message[0] == "stop":
            stop.set()
        else:
            stop.clear()
            jobs.put(message)


def _run(message: Message, send: Any, stop: threading.Event) -> Message:
    _, call, reports = message

    def progress(done: int, total: int, label: str = "") -> None:
        if stop.is_set():
            raise Cancelled("stopped")
        send(("progress", int(done), int(total), str(label)))

    try:
        name, args, kwargs = pickle.loads(call)  # noqa: S301  from our own parent
        module, _, attribute = name.rpartition(".")
        function = getattr(import_module(module), attribute)
        if reports:
            kwargs = {**kwargs, "progress": progress}
        return ("done", pickle.dumps(function(*args, **kwargs)))
    except Cancelled:
        return ("cancelled",)
    except Exception as error:  # whatever a job raises belongs to its page
        speaks = isinstance(error, SPEAKING)
        text = " ".join(str(error).split()) or type(error).__name__
        return ("failed", speaks, text, traceback.format_exc())


def main() -> None:
    """Serve jobs until stdin ends. Prints of a job go to stderr, so they cannot break the pipe."""
    limit_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    stop = threading.Event()
    jobs: queue.Queue[Message] = queue.Queue()

    def send(message: Message) -> None:
        pickle.dump(message, pipe)
        pipe.flush()

    threading.Thread(target=_listen, args=(sys.stdin.buffer, jobs, stop), daemon=True).start()
    while True:
        send(_run(jobs.get(), send, stop))


if __name__ == "__main__":
    main()
