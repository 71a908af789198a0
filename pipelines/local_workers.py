"""Beam workers on this machine that start in milliseconds: forked from a process that has Beam.

Beam's own `--direct_running_mode=multi_processing` starts a Python for each worker, which imports
Beam anew: 3 seconds before the first clip. Here a fork server imports it once, while the driver
does the same. Workers are what Beam's are: `SdkHarness`, talking gRPC on the loopback interface.
"""

import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

URN = "kws:environment:forked_worker:v1"

DEATHS: list[int] = []  # exit codes of workers that ended before they were told to


def preload() -> None:
    """Starts the fork server, which imports what workers need in the background.

    To be called before this process imports Beam: with two cores the two imports cost one.
    """
    context = _context()
    context.set_forkserver_preload(
        [
            "pipelines.beam_runner",
            "apache_beam.runners.worker.sdk_worker",
            "pipelines.dataset_pipeline",
        ]
    )
    # glibc gives each thread a heap of its own, which keeps what it once held: with one heap,
    # memory stays the same from 2,000 to 20,000 clips.
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-8, 1)  # M_ARENA_MAX of malloc.h, for this process
    from multiprocessing import forkserver

    forkserver.ensure_running()


def verbose() -> bool:
    """Whether workers' logs and tracebacks are wanted: `kws --verbose`."""
    return bool(os.environ.get("KWS_VERBOSE"))


def runner(num_workers: int) -> Any:
    """An `FnApiRunner` whose stages run on this many forked processes."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return FnApiRunner() if num_workers == 1 else FnApiRunner(_register()())


def _context() -> ForkServerContext:
    return multiprocessing.get_context("forkserver")


def _serve(control_address: str, worker_id: str) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver, which ends us.
    if not verbose():
        # Failures reach the driver in any case; Beam also logs and prints each one's traceback.
        logging.disable(logging.CRITICAL)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    gc.freeze()  # Beam's objects stay: there is no garbage to search them for.
    SdkHarness(control_address, worker_id=worker_id).run()


def _register() -> Any:
    """Tells Beam of the environment and its worker handler; returns the environment's class.

    Inside functions because this module must be importable before Beam is.
    """
    from apache_beam.transforms import environments

    _register_handler()

    @environments.Environment.register_urn(URN, bytes)
    class ForkedEnvironment(environments.Environment):
        def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
            return URN, b""

        @staticmethod
        def from_runner_api_parameter(
            payload: bytes,
            capabilities: Iterable[str],
            artifacts: Iterable[Any],
            resource_hints: Mapping[str, bytes],
            context: Any,
        ) -> "ForkedEnvironment":
            return ForkedEnvironment(capabilities, artifacts, resource_hints)

    return ForkedEnvironment


def _register_handler() -> None:
    from apache_beam.runners.portability.fn_api_runner import worker_handlers

    @worker_handlers.WorkerHandler.register_environment(URN, bytes)
    class ForkedWorkerHandler(worker_handlers.GrpcWorkerHandler):
        def __init__(self, payload: bytes, state: Any, provision: Any, server: Any) -> None:
            super().__init__(state, provision, server)

        def start_worker(self) -> None:
            self._process = _context().Process(
                target=_serve, args=(self.control_address, self.worker_id), daemon=True
            )
            self._process.start()
            self._stopping, self._closing = threading.Event(), threading.Event()
            watched = (self._process, self._stopping, self._closing, self.control_conn)
            self._watcher = threading.Thread(target=_watch, args=watched, daemon=True)
            self._watcher.start()

        def stop_worker(self) -> None:
            if self._process.is_alive():
                self._stopping.set()
                self._process.terminate()
            self._closing.set()
            self._watcher.join()


def _watch(
    process: BaseProcess, stopping: threading.Event, closing: threading.Event, control: Any
) -> None:
    """Notes a worker's death and fails the job, which might wait for the worker for ever."""
    process.join()
    if process.exitcode and not stopping.is_set():
        DEATHS.append(process.exitcode)
        control.abort(RuntimeError("a worker process died"))
        if not closing.wait(5):  # now and then Beam waits on: for an answer, or the worker's call
            os.kill(os.getpid(), signal.SIGINT)
