"""What all bodies that go over HTTP have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Documented(BaseModel):
    """Shows the docstrings of its fields in the OpenAPI description."""

    model_config = ConfigDict(use_attribute_docstrings=True)
