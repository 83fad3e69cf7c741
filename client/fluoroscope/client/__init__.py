"""The two faces of the client: one that blocks, one for asyncio. Both run the operations of `calls`."""

from fluoroscope.client.asynchronous import AsyncClient
from fluoroscope.client.blocking import Client

__all__ = ["AsyncClient", "Client"]
