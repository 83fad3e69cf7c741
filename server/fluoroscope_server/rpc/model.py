"""ModelService: tells which models there are, and changes which of their versions serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope.v1 import model_pb2 as model
from fluoroscope_server.keys import caller
from fluoroscope_server.rpc.changes import changes
from fluoroscope_server.rpc.decoding import decode_version, parse
from fluoroscope_server.rpc.disclosure import disclosed
from fluoroscope_server.rpc.encoding import encode_idle_model, encode_model
from fluoroscope_server.rpc.paging import page_of

if TYPE_CHECKING:
    from fluoroscope_server.rpc.context import Context
    from fluoroscope_server.serving import ModelEntry, Operations, Repository, Selector


class ModelService:
    """Lists, describes, loads and unloads models."""

    def __init__(self, repository: Repository, operations: Operations | None) -> None:
        """Takes the models, and what changes them; None if nothing may."""
        self._repository = repository
        self._operations = operations

    async def list_models(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `ListModels`."""
        request = parse(model.ListModelsRequest, data)
        names = [name for name in self._repository.names() if caller().sees(name)]
        page, token = page_of(names, request.page_size, request.page_token, default=100, most=1000)
        models = [self._describe(self._repository.entry(name)) for name in page]
        return model.ListModelsResponse(models=models, next_page_token=token).SerializeToString()

    async def get_model(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `GetModel`."""
        request = parse(model.GetModelRequest, data)
        entry = self._repository.entry(request.model)
        loaded = entry.select(decode_version(request))
        return model.GetModelResponse(model=disclosed(encode_model(entry, loaded.servable))).SerializeToString()

    async def load_model(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `LoadModel`."""
        request = parse(model.LoadModelRequest, data)
        version = request.version if request.HasField("version") else None
        entry = await changes(self._operations, request.model).load(request.model, version)
        return model.LoadModelResponse(model=self._describe(entry, version)).SerializeToString()

    async def unload_model(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `UnloadModel`."""
        request = parse(model.UnloadModelRequest, data)
        version = request.version if request.HasField("version") else None
        entry = await changes(self._operations, request.model).unload(request.model, version, force=request.force)
        return model.UnloadModelResponse(model=self._describe(entry)).SerializeToString()

    async def set_label(self, data: bytes, context: Context) -> bytes:  # noqa: ARG002 (gRPC passes it)
        """Answers one `SetLabel`."""
        request = parse(model.SetLabelRequest, data)
        version = request.version if request.HasField("version") else None
        entry = changes(self._operations, request.model).set_label(request.model, request.label, version)
        return model.SetLabelResponse(model=self._describe(entry)).SerializeToString()

    def _describe(self, entry: ModelEntry, selector: Selector = None) -> model.Model:
        """Returns a model as its caller may see it, whether a version of it answers or not."""
        if entry.serving is None:
            return disclosed(encode_idle_model(entry))
        return disclosed(encode_model(entry, entry.select(selector).servable))
