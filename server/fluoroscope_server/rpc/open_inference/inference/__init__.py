"""Generated from proto/inference by `make generate`. Never edited."""
