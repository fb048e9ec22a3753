"""The service of one run as an ASGI application.

In: a `Run` and its token. Out: `/api`, `/v1`, the page at `/`, and `/healthz`, which alone needs no token.
"""

from importlib import resources

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import Response
from fastapi.security import HTTPBearer

from sppo_ray import __version__
from sppo_ray.web.api import api_routes
from sppo_ray.web.chat import chat_routes
from sppo_ray.web.folder import RunFolder
from sppo_ray.web.key import Key
from sppo_ray.web.login import login_routes
from sppo_ray.web.problems import handle_problems
from sppo_ray.web.protocol import Run
from sppo_ray.web.security import Guard

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def create_app(run: Run, token: str, chats: int = 16) -> FastAPI:
    """chats: the most answers to people that are sampled at once."""
    app = FastAPI(
        title="sppo-ray",
        version=__version__,
        description="A run of self-play preference optimization: watch it, steer it, talk to its policy.",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
    )
    folder, key = RunFolder(run.ledger), Key(token)
    # The guard checks the token before any route: this only describes it.
    bearer = [Depends(HTTPBearer(auto_error=False))]
    app.include_router(api_routes(run, folder), dependencies=bearer, tags=["run"])
    app.include_router(chat_routes(run, folder, chats), dependencies=bearer, tags=["chat"])
    app.include_router(login_routes(key))
    app.include_router(_page_routes())

    @app.get("/healthz", tags=["health"], summary="Whether the service answers; needs no token")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    handle_problems(app)
    app.add_middleware(Guard, key=key)
    return app


def _page_routes() -> APIRouter:
    """The page's files, read once: no request path reaches the file system."""
    router = APIRouter(include_in_schema=False)
    static = resources.files("sppo_ray.web").joinpath("static")
    style = resources.files("sppo_ray.reporting").joinpath("templates", "report.css").read_text("utf-8")
    files = {f"/{file.name}": file.read_text("utf-8") for file in static.iterdir() if file.name != "login.html"}
    files["/"] = files.pop("/index.html")
    files["/report.css"] = style  # shared by the page and the report
    for path, text in files.items():
        kind = TYPES[path[path.rindex(".") :] if "." in path else ".html"]

        def serve(text: str = text, kind: str = kind) -> Response:
            return Response(text, media_type=kind)

        router.add_api_route(path, serve)
    return router
