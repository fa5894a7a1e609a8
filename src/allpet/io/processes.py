"""Worker processes that run on one thread each and end with their parent, however that ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Environment variables that numeric libraries read when they are loaded."""


@contextmanager
def pool(workers: int) -> Iterator[Callable[..., Future[Any]]]:
    """Worker processes, started fresh (nothing is inherited); gives the function that submits work to them.

    An error in the block, Ctrl-C included, ends the workers at once, in the middle of what they do. So does the death
    of this process: every worker waits on a pipe that only this process holds open.
    """
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    with _one_thread_each():
        executor = ProcessPoolExecutor(workers, context, initializer=_end_with, initargs=(watched,))

        def submit(*call: Any) -> Future[Any]:
            with _without_interrupts():
                return executor.submit(*call)

        try:
            yield submit
        except BaseException:
            held.close()
            raise
        finally:
            executor.shutdown(cancel_futures=True)
            held.close()
            watched.close()


class _Single:
    """How many ask for one thread at the moment, and what the last of them restores."""

    lock, asking, before = Lock(), 0, ExitStack()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run the numeric libraries of this process on one thread meanwhile, as a worker does.

    Several threads may ask for it at once; what was before is restored when the last of them is done.
    """
    with _Single.lock:
        if not _Single.asking:
            _Single.before = _on_one_thread()
        _Single.asking += 1
    try:
        yield
    finally:
        with _Single.lock:
            _Single.asking -= 1
            if not _Single.asking:
                _Single.before.close()


def _on_one_thread() -> ExitStack:
    """Set one thread; closing what is returned restores the number before."""
    stack = ExitStack()
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        stack.enter_context(threadpool_limits(1))
    torch = sys.modules.get("torch")
    if torch is not None:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
    return stack


def _end_with(watched: Connection) -> None:
    """Started in a worker: end the process as soon as the other end of the pipe is closed."""

    def wait() -> None:
        with suppress(EOFError, OSError):
            watched.recv()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile run numeric libraries on one thread; the environment is restored afterwards."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C (their parent ends them); here it waits until afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
