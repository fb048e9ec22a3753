"""Kinds of values that the tree of settings is made of.

In: what a person writes. Out: the value within its limits, or pydantic's error.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
NotNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Labels = dict[str, str]

# Marks a key, or a section, that may change when a run is continued: the numbers stay the same, apart from rounding.
FREE = "may change on resume"


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
