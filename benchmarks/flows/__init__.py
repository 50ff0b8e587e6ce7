"""One module per transport, each used as its own documentation says."""
