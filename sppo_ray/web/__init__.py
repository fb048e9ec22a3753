"""The service of a run: HTTP API, OpenAI-compatible chat, and a page. It knows a run only by the protocol in `protocol.py`."""
