"""vLLM's engine core as a child process, its mode on GPUs: who waits for it learns of its death, and it ends with its owner.

In: an engine; the id of a process. Out: a call, or the end of this process, once that one is gone.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection
from typing import Any

from sppo_ray.errors import EngineFailed


def watch(engine: Any, died: Callable[[EngineFailed], object]) -> None:
    """Call `died` from another thread once the child is gone; an engine in this process has none.

    vLLM 0.32 itself leaves who waits for a step or for an answer of its workers waiting for ever, if the child was killed.
    """
    client = engine.engine_core
    if not hasattr(client, "outputs_queue"):
        return
    (process,) = client.resources.engine_manager.processes

    def wait() -> None:
        connection.wait([process.sentinel])
        failure = EngineFailed(f"vLLM's engine process {process.pid} ended")
        client.resources.engine_dead = True  # vLLM then refuses whatever it is asked from now on
        died(failure)
        client.outputs_queue.put(failure)
        for answer in list(client.utility_results.values()):
            if not answer.done():
                answer.set_exception(failure)

    threading.Thread(target=wait, name="vllm-engine-watch", daemon=True).start()


def end_with(owner: int) -> None:
    """Kill this process as soon as the one of that id is gone, even if nobody waits for its exit status.

    With it goes what stands between the two: an engine core with workers of its own would look after them for seconds.
    """
    between = {os.getppid()} - {owner, 1}
    handle = os.pidfd_open(owner)

    def wait() -> None:
        connection.wait([handle])
        for process in (*between, os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    threading.Thread(target=wait, name=f"end-with-{owner}", daemon=True).start()
