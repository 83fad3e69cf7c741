"""Families: from a config to a network, whatever library the network is written in."""

from fluoroscope_server.families.catalogue import build_network
from fluoroscope_server.families.function import PureFunction
from fluoroscope_server.families.linen import Linen
from fluoroscope_server.families.mark import input_path, module_path
from fluoroscope_server.families.network import Network, Variables, abstract_inputs

__all__ = [
    "Linen",
    "Network",
    "PureFunction",
    "Variables",
    "abstract_inputs",
    "build_network",
    "input_path",
    "module_path",
]
