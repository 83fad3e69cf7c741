"""The Open Inference Protocol, version 2: the same models, for the clients that speak it already."""

from fluoroscope_server.rpc.open_inference.service import SERVICE_NAME, OpenInferenceService

__all__ = ["SERVICE_NAME", "OpenInferenceService"]
