"""The HTTP side of a run: API, page, chat for OpenAI clients, security.

In: the run behind a protocol, a run folder. Out: a FastAPI application. Never imports Ray: an actor serves it.
"""

__all__ = ["address", "app", "protocol", "server"]
