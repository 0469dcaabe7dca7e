"""The service's addresses: an API and one page; every refusal says which column and row, and nothing of the server."""

import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import posterion as po
from posterion.errors import OptionError, PosterionError
from posterion.serving.description import REFUSALS, TABLE, UPLOAD_REFUSALS, describe
from posterion.serving.limits import Limits
from posterion.serving.model import ServedModel
from posterion.serving.rows import Fault, RefusedError
from posterion.serving.service import Service
from posterion.serving.uploads import predict_file

_LOG = logging.getLogger("posterion.serving")
_PAGE = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Rows(BaseModel):
    """Rows to predict, each an object of column name to value."""

    model_config = ConfigDict(extra="forbid")
    rows: list[dict[str, Any]]


class OneRow(BaseModel):
    """A row to look at."""

    model_config = ConfigDict(extra="forbid")
    row: dict[str, Any]


class SurfaceRequest(OneRow):
    """A row, and the two inputs over which to predict."""

    first: str = Field(max_length=1000)
    second: str = Field(max_length=1000)


def create_app(model: ServedModel, *, limits: Limits | None = None) -> FastAPI:
    """Make the service as an ASGI application, for a server of your own.

    Parameters
    ----------
    model
        What to serve.
    limits
        What a request may ask for; None for the defaults.

    Raises
    ------
    OptionError
        If names of the model's classes cannot be written into a line of a table.
    """
    if any("\n" in name or "\r" in name for name in model.classes):
        raise OptionError("names of classes must not hold line breaks")
    service = Service(model, limits or Limits())
    files = {name: resources.files("posterion.serving").joinpath("page", name).read_bytes() for name in _PAGE}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        seconds = await run_in_threadpool(service.warm_up)
        _LOG.info("warmed up in %.2f s", seconds)
        yield

    # The interactive documentation would be fetched from elsewhere; /openapi.json is here.
    app = FastAPI(
        title=model.name,
        version=po.__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        description="Predictions with their uncertainty.",
    )
    app.state.service = service
    counts = _instrument(app, service)
    _refusals(app)

    @app.get("/health", summary="Whether the service is ready")
    def health() -> dict[str, Any]:
        return {"status": "ok" if service.warmed else "starting", "version": po.__version__}

    @app.get("/schema", summary="What the model takes and predicts")
    def schema() -> dict[str, Any]:
        return service.schema()

    @app.post("/predict", summary="Predict rows", response_model=None, responses=REFUSALS)
    async def predict(body: Rows) -> Response:
        rows = body.rows
        at_once = service.is_at_once(len(rows))
        found = service.predictions(rows) if at_once else await run_in_threadpool(service.predictions, rows)
        counts.inc(len(body.rows))
        return JSONResponse(found)  # plain values already: FastAPI would look at every one of them again

    @app.post("/surface", summary="Predictions over two inputs, the others as in the row", responses=REFUSALS)
    def surface(body: SurfaceRequest) -> dict[str, Any]:
        return service.surface(body.row, body.first, body.second)

    @app.post("/nearest", summary="The training rows nearest to a row, with their outcomes", responses=REFUSALS)
    def nearest(body: OneRow) -> dict[str, Any]:
        return service.nearest(body.row)

    @app.post(
        "/upload",
        summary="Predict a CSV table (the body) and mark the most uncertain rows for referral",
        response_class=StreamingResponse,
        responses=UPLOAD_REFUSALS,
        openapi_extra={"requestBody": TABLE | {"required": True}},
    )
    async def upload(request: Request, refer: float = 0.1) -> Response:
        if not 0 <= refer <= 1:
            raise RefusedError([Fault(f"refer must be a share between 0 and 1; found {refer:g}")])
        with tempfile.TemporaryFile() as file:
            size = 0
            async for piece in request.stream():
                size += len(piece)
                if size > service.limits.upload_bytes:
                    raise RefusedError([Fault(f"the table is larger than {service.limits.upload_bytes:,} bytes")], 413)
                await run_in_threadpool(file.write, piece)
            await run_in_threadpool(file.seek, 0)
            lines = await run_in_threadpool(lambda: predict_file(service, file, refer=refer))
        name = {"Content-Disposition": 'attachment; filename="predictions.csv"'}
        return StreamingResponse(lines, media_type="text/csv", headers=name)

    def page(name: str) -> Callable[[], Response]:
        return lambda: Response(files[name], media_type=_PAGE[name])

    for name in _PAGE:
        address = "/" if name == "page.html" else f"/{name}"
        app.add_api_route(address, page(name), include_in_schema=False, response_class=Response)
    app.add_api_route("/favicon.ico", page("icon.svg"), include_in_schema=False, response_class=Response)
    describe(app, service)
    return app


def _instrument(app: FastAPI, service: Service) -> Counter:
    """Measure every request; the counter of predicted rows."""
    registry = CollectorRegistry()
    requests = Counter("posterion_requests", "Requests answered", ["path", "status"], registry=registry)
    seconds = Histogram("posterion_request_seconds", "Time to answer", ["path"], registry=registry)
    rows = Counter("posterion_rows", "Rows predicted by /predict", registry=registry)

    app.add_middleware(_Measured, service=service, requests=requests, seconds=seconds)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return rows


class _Measured:
    """Limits, headers and measurements around all addresses; whatever goes wrong behind it is logged and not told.

    Plain ASGI: the framework's own kind of middleware starts a task and copies the answer, a tenth of a row's time.
    """

    def __init__(self, app: ASGIApp, *, service: Service, requests: Counter, seconds: Histogram) -> None:
        self._app, self._limits, self._requests, self._seconds = app, service.limits, requests, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refused = self._refused(scope)
        try:
            await (refused or self._app)(scope, receive, answer)
        except Exception:
            _LOG.exception("a request to %s failed", scope["path"])
            if status:  # the answer has begun: all that is left is to end it
                raise
            sorry = refusal([Fault("something went wrong inside the service; its log says what")], 500)
            await sorry(scope, receive, answer)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._requests.labels(path, status).inc()
            self._seconds.labels(path).observe(time.perf_counter() - began)

    def _refused(self, scope: Scope) -> JSONResponse | None:
        """The answer to what is too long, or does not say how long it is."""
        length = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-length"), "")
        upload = scope["path"] == "/upload"
        most = self._limits.upload_bytes if upload else self._limits.body_bytes
        if length.isdecimal() and int(length) > most:
            return refusal([Fault(f"the request is larger than {most:,} bytes")], 413)
        if not upload and scope["method"] == "POST" and not length.isdecimal():
            return refusal([Fault("send the length of the request (Content-Length)")], 411)
        return None


def refusal(
    faults: list[Fault] | tuple[Fault, ...], status: int, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A refusal as JSON: ``{"errors": [{"row": 1, "column": "age", "message": "found 'x', expected a number"}]}``."""
    return JSONResponse({"errors": [vars(fault) for fault in faults]}, status_code=status, headers=headers)


def _refusals(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return refusal(error.faults, error.status)

    @app.exception_handler(RequestValidationError)
    async def misshapen(_: Request, error: RequestValidationError) -> Response:
        faults = []
        for one in error.errors()[:20]:
            place = [part for part in one["loc"] if part != "body"]
            where = ".".join(map(str, place))[:200]
            row = place[1] + 1 if len(place) > 1 and place[0] == "rows" and isinstance(place[1], int) else None
            faults.append(Fault(f"{where + ': ' if where else ''}{one['msg']}", row))
        return refusal(faults, 422)

    @app.exception_handler(PosterionError)
    async def unfit(_: Request, error: PosterionError) -> Response:
        return refusal([Fault(str(error))], 422)

    @app.exception_handler(HTTPException)
    async def not_here(_: Request, error: HTTPException) -> Response:
        return refusal([Fault(str(error.detail))], error.status_code, error.headers)
