"""Pages that MkDocs generates from the code: `<!-- configuration -->` becomes the configuration reference."""

from typing import Any

from sppo_ray.config import reference


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace("<!-- configuration -->", reference())
