"""What `robust-perception bag` can do: a command a file, each with its arguments and its work."""
