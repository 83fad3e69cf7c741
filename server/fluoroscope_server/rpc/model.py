"""ModelService: tells which models there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.v1 import model_pb2 as model
from fluoroscope_server.errors import UnavailableError
from fluoroscope_server.keys import caller
from fluoroscope_server.rpc.decoding import decode_version, parse
from fluoroscope_server.rpc.disclosure import disclosed
from fluoroscope_server.rpc.encoding import encode_model
from fluoroscope_server.rpc.paging import page_of

if TYPE_CHECKING:
    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.serving import Repository


class ModelService:
    """Lists and describes models."""

    def __init__(self, repository: Repository) -> None:
        """Takes the models."""
        self._repository = repository

    async def list_models(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ListModels`."""
        request = parse(model.ListModelsRequest, data)
        names = [name for name in self._repository.names() if caller().sees(name)]
        page, token = page_of(names, request.page_size, request.page_token, default=100, most=1000)
        models = [disclosed(self._describe(name)) for name in page]
        return model.ListModelsResponse(models=models, next_page_token=token).SerializeToString()

    async def get_model(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `GetModel`."""
        request = parse(model.GetModelRequest, data)
        servable = self._repository.get(request.model, decode_version(request))
        return model.GetModelResponse(model=disclosed(encode_model(servable))).SerializeToString()

    def _describe(self, name: str) -> model.Model:
        try:
            return encode_model(self._repository.get(name))
        except UnavailableError:
            return model.Model(name=name, state=model.MODEL_STATE_LOADING)
