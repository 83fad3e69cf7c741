"""grpc.reflection: lets clients without our .proto files find and call every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from fluoroscope_server.rpc.decoding import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fluoroscope_server.rpc.context import Context


class ReflectionService:
    """The library's servicer, behind the parser that tells what is wrong with a message."""

    def __init__(self, names: Sequence[str]) -> None:
        """Takes the full names of all services."""
        self._servicer = reflection.aio.ReflectionServicer(names)

    async def server_reflection_info(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answers each question of a stream."""
        parsed = (parse(ServerReflectionRequest, data) async for data in requests)
        async for response in self._servicer.ServerReflectionInfo(parsed, context):
            yield response.SerializeToString()
