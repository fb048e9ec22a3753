"""Logging in: a form that takes the token, a cookie that no script can read.

In: the form. Out: the page, or the form again.
"""

import base64
import hashlib
from importlib import resources
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from sppo_ray.web.key import Key
from sppo_ray.web.problems import problem

SESSION_SECONDS = 30 * 24 * 3600


def login_page(status: int, wrong: bool = False) -> HTMLResponse:
    """The form, with its stylesheet inline: every other file needs the token."""
    html = resources.files("sppo_ray.web").joinpath("static", "login.html").read_text("utf-8")
    style = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    message = "That is not this run's token." if wrong else ""
    return HTMLResponse(html.replace("{{ message }}", message), status, {"Content-Security-Policy": policy})


def login_routes(key: Key) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def form() -> Response:
        return login_page(200)

    @router.post("/login")
    async def login(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode(errors="replace"))
        if not key.opens(fields.get("token", [""])[0].strip()):
            as_page = "text/html" in request.headers.get("accept", "")
            return login_page(401, wrong=True) if as_page else problem(401, "that is not this run's token")
        answer = RedirectResponse("/", 303)
        # Not `secure`: the service speaks HTTP, on loopback or behind a proxy of the user's.
        answer.set_cookie(key.cookie, key.session, SESSION_SECONDS, httponly=True, samesite="strict")
        return answer

    return router
