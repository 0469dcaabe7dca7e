"""The OpenAPI description: what FastAPI makes of the addresses, with the model's own columns and true refusals."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from posterion.serving.model import Input
from posterion.serving.service import Service

_TYPES = {
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "category": {"type": "string"},
}


class Refused(BaseModel):
    """One thing that is wrong with a request, with its row (from 1) and column where it is about one."""

    message: str
    row: int | None
    column: str | None


class Refusal(BaseModel):
    """Why a request is not answered."""

    errors: list[Refused]


def _refused(why: str) -> dict[str, Any]:
    return {"model": Refusal, "description": why}


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _refused("The request is not JSON"),
    411: _refused("The request does not say how long it is"),
    413: _refused("More than the service accepts"),
    422: _refused("Something in it does not fit the model"),
}
"""Of addresses that take JSON."""
TABLE: dict[str, Any] = {"content": {"text/csv": {"schema": {"type": "string"}}}}
"""A table, as the body of a request or an answer."""
UPLOAD_REFUSALS: dict[int | str, dict[str, Any]] = {
    200: TABLE | {"description": "A line per row, in the order of the table"},
    413: REFUSALS[413],
    422: REFUSALS[422],
}


def describe(app: FastAPI, service: Service) -> None:
    """Let the application's description name the columns of the model, so that programs can write clients.

    Parameters
    ----------
    app
        With all its addresses.
    service
        What it serves.
    """
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = plain()["components"]["schemas"]
            row = {"$ref": "#/components/schemas/Row"}
            schemas["Row"] = _row(service)
            schemas["Rows"]["properties"]["rows"] |= {"minItems": 1, "maxItems": service.limits.rows, "items": row}
            for name in ("OneRow", "SurfaceRequest"):
                schemas[name]["properties"]["row"] = row
            numbers = [one.name for one in service.inputs if one.kind in ("number", "date")]
            for place in ("first", "second") if numbers else ():
                schemas["SurfaceRequest"]["properties"][place]["enum"] = numbers
        return plain()

    app.openapi = openapi  # FastAPI's documented way to extend it


def _row(service: Service) -> dict[str, Any]:
    missing = bool(service.model.takes_missing)
    names = [one.name for one in service.inputs]
    return {
        "type": "object",
        "description": "A value for each column. Numbers, dates and truth values may be written as text, too.",
        "properties": {one.name: _cell(one, missing=missing) for one in service.inputs},
        "required": [] if missing else names,
        "additionalProperties": False,
        "examples": [service.middle_row()],
    }


def _cell(one: Input, *, missing: bool) -> dict[str, Any]:
    cell: dict[str, Any] = dict(_TYPES[one.kind])
    if missing:
        return cell | {"type": [cell["type"], "null"]}
    return cell | ({"enum": list(one.categories)} if one.kind == "category" and one.categories else {})
