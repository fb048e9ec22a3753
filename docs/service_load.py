"""The load of docs/service.md on a run's service: chats, 50 at once, and 1,000 listeners for a minute.

    SPPO_RAY_URL=... SPPO_RAY_TOKEN=... python docs/service_load.py chats | listeners PID

PID: of the gateway's process, whose memory and time are measured. Prints one line of JSON.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from typing import Any

import openai
import psutil

URL, TOKEN = os.environ["SPPO_RAY_URL"], os.environ["SPPO_RAY_TOKEN"]


async def chats(requests: int = 200, at_once: int = 50) -> dict[str, Any]:
    client = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=TOKEN, max_retries=0, timeout=600)
    gate = asyncio.Semaphore(at_once)
    failed: list[str] = []
    seconds: list[float] = []
    tokens = 0

    async def one(number: int) -> None:
        nonlocal tokens
        async with gate:
            started = time.monotonic()
            messages: Any = [{"role": "user", "content": f"Name {number} fruits."}]
            try:
                answer = await client.chat.completions.create(model="policy", messages=messages, max_tokens=40)
            except openai.OpenAIError as error:
                failed.append(repr(error))
            else:
                tokens += answer.usage.completion_tokens if answer.usage else 0
            seconds.append(time.monotonic() - started)

    started = time.monotonic()
    await asyncio.gather(*map(one, range(requests)))
    result = {"requests": requests, "failed": failed, "seconds": round(time.monotonic() - started, 1)}
    return result | {
        "median_s": round(statistics.median(seconds), 2),
        "slowest_s": round(max(seconds), 2),
        "tokens": tokens,
    }


async def listeners(pid: int, count: int = 1000, seconds: int = 60) -> dict[str, Any]:
    gateway = psutil.Process(pid)
    host, _, port = URL.removeprefix("http://").rpartition(":")
    events = 0

    async def listen() -> None:
        nonlocal events
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        while data := await reader.read(1 << 16):
            events += data.count(b"event: status")

    memory = [gateway.memory_info().rss >> 20]
    used = sum(gateway.cpu_times()[:2])
    tasks = []
    for _ in range(count // 50):
        tasks += [asyncio.create_task(listen()) for _ in range(50)]
        await asyncio.sleep(0.1)
    for _ in range(seconds // 10):
        await asyncio.sleep(10)
        memory.append(gateway.memory_info().rss >> 20)
    alive = sum(not task.done() for task in tasks)
    used = sum(gateway.cpu_times()[:2]) - used
    for task in tasks:
        task.cancel()
    return {"listening": alive, "events": events, "rss_MiB": memory, "cpu_s": round(used, 1)}


if __name__ == "__main__":
    work = chats() if sys.argv[1] == "chats" else listeners(int(sys.argv[2]))
    print(json.dumps(asyncio.run(work)))
