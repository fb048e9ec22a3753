"""Authentication of a run's service: a token, and a cookie that stands for it in a browser.

In: the token. Out: whether a request may pass, by comparisons in constant time.
"""

import hashlib
import hmac
import secrets

from starlette.requests import Request


class Key:
    """The run's token, and the cookie derived from it, which therefore stays valid when the service restarts."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # All ports of a host share their cookies: each run needs a name of its own.
        self.cookie = "sppo_ray_" + hashlib.sha256(self._token).hexdigest()[:8]
        self.session = hmac.new(self._token, b"sppo-ray session", hashlib.sha256).hexdigest()

    def opens(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token)

    def admits(self, request: Request) -> bool:
        """Any request with the bearer token; with the cookie only requests of the page itself."""
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
