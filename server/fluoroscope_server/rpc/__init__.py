"""The gRPC side: decode, call, encode."""

from fluoroscope_server.rpc.server import RpcServer

__all__ = ["RpcServer"]
