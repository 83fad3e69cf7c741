"""A gRPC server for Flax networks that lets remote clients look inside them."""
