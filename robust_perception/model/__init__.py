"""The network in torch, one idea a file."""
