"""Generated from proto/fluoroscope/v1 by `make generate`. Never edited."""
