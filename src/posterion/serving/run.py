"""Starting the service: bound to this machine unless told otherwise."""

import logging

from posterion.errors import OptionError
from posterion.serving.application import create_app
from posterion.serving.limits import Limits
from posterion.serving.model import ServedModel


def serve(
    model: ServedModel, *, host: str = "127.0.0.1", port: int = 8000, limits: Limits | None = None, quiet: bool = False
) -> None:
    """Serve a model until Ctrl-C: an API, and one page for people.

    Everybody who reaches the address can ask: it has no passwords. Put a proxy with authentication before it where that
    matters, and bind other addresses than this machine's own only behind one.

    Parameters
    ----------
    model
        What to serve: a `PosteriorModel`, or whatever fulfils `ServedModel`.
    host
        Address to listen on; the default is reachable from this machine alone.
    port
        Its port.
    limits
        What a request may ask for; None for the defaults.
    quiet
        Whether to write nothing but errors.

    Raises
    ------
    OptionError
        If the model is not one that can be served, or the port does not exist.
    """
    import uvicorn

    if not isinstance(model, ServedModel):
        raise OptionError(
            f"{type(model).__name__} cannot be served as it is; wrap a posterior in serving.PosteriorModel"
        )
    if not 0 <= port <= 65_535:
        raise OptionError(f"port must lie between 0 and 65535; found {port}")
    app = create_app(model, limits=limits)
    level = logging.ERROR if quiet else logging.INFO
    uvicorn.run(app, host=host, port=port, log_level=level, access_log=False, timeout_keep_alive=30)
