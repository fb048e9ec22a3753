"""The one key of a run's service: a token that people hold, a cookie that stands for it in a browser.

In: the token. Out: whether a request may pass, by comparisons in constant time.
"""

import hashlib
import hmac
import secrets

from starlette.requests import Request


class Key:
    """The run's token, and the cookie that stands for it in a browser. It survives a restart of the service."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # Cookies are shared by all ports of a host: runs side by side need names of their own.
        self.cookie = "sppo_ray_" + hashlib.sha256(self._token).hexdigest()[:8]
        self.session = hmac.new(self._token, b"sppo-ray session", hashlib.sha256).hexdigest()

    def opens(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token)

    def admits(self, request: Request) -> bool:
        """By bearer token; by cookie only what the page itself sends."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.opens(token.strip())
        cookie = request.cookies.get(self.cookie, "")
        return secrets.compare_digest(cookie.encode(), self.session.encode()) and _same_origin(request)


def _same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin" or (site == "none" and request.method == "GET")
    origin = request.headers.get("origin")
    return request.method == "GET" if origin is None else origin == f"{request.url.scheme}://{request.url.netloc}"
