"""The engine's own process: llama.cpp's HTTP server on loopback, gone as soon as its parent is.

Started by `engine.LocalEngine` with its orders in the environment: a native crash, or memory running out,
then takes down this process and not the service.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

CONTEXT_TOKENS = 8192
"""More would cost memory and, on a processor, minutes of prompt evaluation."""
WATCH_SECONDS = 0.25


def main() -> None:
    """Serve until told to stop, or until the parent is gone."""
    parent = int(os.environ["LOCAL_MODEL_PARENT"])
    _die_with_parent()
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stopping.append(received))
    server = _serve(os.environ["LOCAL_MODEL_FILE"], os.environ["LOCAL_MODEL_NAME"])
    ready = Path(os.environ["LOCAL_MODEL_READY_FILE"])
    unfinished = ready.with_suffix(".new")
    unfinished.write_text(server.listening_address)
    unfinished.replace(ready)
    while not stopping and os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    # The native server joins its threads when it is destroyed, which may take as long as an answer does.
    os._exit(0)


def _serve(file: str, name: str):  # type: ignore[no-untyped-def]  # the engine ships no types
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = int(os.environ.get("LOCAL_MODEL_PORT", "0"))
    params.api_keys = [os.environ["LOCAL_MODEL_API_KEY"]]
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    threads = max(1, min(4, (os.cpu_count() or 2)))
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 4
    params.use_jinja = True
    params.cache_prompt = True
    params.verbosity = -1
    params.ui = False
    return xllamacpp.Server(params)


def _die_with_parent() -> None:
    """On Linux the kernel sees to it, also while the model is still being loaded."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # prctl(2)
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    main()
