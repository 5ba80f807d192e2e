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
PROMPT_CACHE_MIB = 512
"""For prompts other than the last. llama.cpp's default is 8 GiB, more than the machine was checked for."""
ANSWER_TOKENS = 2048
"""Where an answer ends whose request names no limit; a small model may repeat itself for ever."""
NICENESS = 5


def main() -> None:
    """Serve until the parent is gone. SIGTERM keeps its default: it ends us at once, also while loading,
    when no Python handler would run; there is nothing to save."""
    parent = int(os.environ["LOCAL_MODEL_PARENT"])
    _die_with_parent()
    if os.getppid() != parent:  # it was gone before the kernel could be asked
        return
    os.nice(NICENESS)
    server = _serve(os.environ["LOCAL_MODEL_FILE"], os.environ["LOCAL_MODEL_NAME"])
    ready = Path(os.environ["LOCAL_MODEL_READY_FILE"])
    unfinished = ready.with_suffix(".new")
    unfinished.write_text(server.listening_address)
    unfinished.replace(ready)
    while os.getppid() == parent:
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
    params.n_predict = ANSWER_TOKENS
    threads = min(4, _cores())
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 4
    params.use_jinja = True
    params.cache_prompt = True
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.verbosity = 1  # errors; without them a failed start has no reason in the log
    params.endpoint_slots = False
    params.ui = False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:  # the reason is in the lines before it, which a traceback would push away
        sys.exit(str(error))


def _cores() -> int:
    """Physical cores that we may use: two threads of one core share its arithmetic (sysfs, cputopology)."""
    if sys.platform != "linux":
        return os.cpu_count() or 2
    usable = os.sched_getaffinity(0)
    siblings = (Path(f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list") for n in usable)
    try:
        return len({path.read_text() for path in siblings})
    except OSError:
        return len(usable)


def _die_with_parent() -> None:
    """On Linux the kernel sees to it, also while the model is still being loaded."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # prctl(2)
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    main()
