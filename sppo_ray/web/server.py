"""The HTTP server of the service.

In: the application, and a socket that is already bound, so that its port is known. Out: a uvicorn server.
"""

import socket

import uvicorn
from fastapi import FastAPI

MOST_CONNECTIONS = 8192
LONGEST_HEAD = 32 << 10  # bytes of request line and headers


def bind(host: str, port: int) -> socket.socket:
    """Port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound


def http_server(app: FastAPI) -> uvicorn.Server:
    """Logs no requests: a URL may contain what a person searched for."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",  # the only one that limits the head of a request
            h11_max_incomplete_event_size=LONGEST_HEAD,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=4096,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
    )
