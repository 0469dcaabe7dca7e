"""A model behind an address: an API and one page, for people and programs that have no Python at hand."""

# ruff: noqa: E402
from posterion._optional import import_optional

for _module in ("fastapi", "uvicorn", "prometheus_client"):
    import_optional(_module, "serve", "Served models")

from posterion.serving.application import create_app
from posterion.serving.limits import Limits
from posterion.serving.model import Answer, Input, ServedModel, inputs_of
from posterion.serving.posterior import PosteriorModel
from posterion.serving.run import serve

__all__ = ["Answer", "Input", "Limits", "PosteriorModel", "ServedModel", "create_app", "inputs_of", "serve"]
