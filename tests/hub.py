"""A stand-in for the Hugging Face hub on this machine: what an upload of huggingface_hub needs, repositories in memory."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request

TOKEN = "hf_of_the_stand_in"


@dataclass
class Hub:
    """repositories: the files of each by name.  objects: what came by git-lfs, by its SHA-256."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    full: bool = False


def check_token(authorization: Annotated[str, Header()] = "") -> None:
    if authorization != f"Bearer {TOKEN}":
        raise HTTPException(401, "Invalid username or password.")


def application(hub: Hub) -> FastAPI:
    app = FastAPI()
    signed = [Depends(check_token)]

    @app.post("/api/repos/create", dependencies=signed)
    async def create(request: Request) -> dict[str, str]:
        asked = await request.json()
        hub.repositories.setdefault(f"{asked['organization']}/{asked['name']}", {})
        return {"url": f"{hub.url}/{asked['organization']}/{asked['name']}"}

    @app.post("/api/validate-yaml")
    async def validate() -> dict[str, list[str]]:
        return {"errors": [], "warnings": []}

    @app.post("/api/models/{owner}/{name}/preupload/main", dependencies=signed)
    async def modes(request: Request) -> dict[str, Any]:
        paths = [file["path"] for file in (await request.json())["files"]]
        large = ["lfs" if path.endswith(".safetensors") else "regular" for path in paths]
        return {
            "files": [
                {"path": path, "uploadMode": mode, "shouldIgnore": False}
                for path, mode in zip(paths, large, strict=True)
            ]
        }

    @app.post("/{owner}/{name}.git/info/lfs/objects/batch", dependencies=signed)
    async def batch(request: Request) -> dict[str, Any]:
        asked = (await request.json())["objects"]
        return {
            "transfer": "basic",
            "objects": [one | {"actions": {"upload": {"href": f"{hub.url}/objects/{one['oid']}"}}} for one in asked],
        }

    @app.put("/objects/{oid}")
    async def put(oid: str, request: Request) -> None:
        data = await request.body()
        if hub.full or hashlib.sha256(data).hexdigest() != oid:
            raise HTTPException(403, "no room")
        hub.objects[oid] = data

    @app.post("/api/models/{owner}/{name}/commit/main", dependencies=signed)
    async def commit(owner: str, name: str, request: Request) -> dict[str, str]:
        repository = hub.repositories[f"{owner}/{name}"]
        for line in (await request.body()).splitlines():
            key, value = (entry := json.loads(line))["key"], entry["value"]
            if key == "file":
                repository[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                repository[value["path"]] = hub.objects[value["oid"]]
        return {"commitUrl": f"{hub.url}/{owner}/{name}/commit/1", "commitOid": "1"}

    return app
