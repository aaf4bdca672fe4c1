"""What a model costs on this machine: time, switches of the pattern, memory; always compared, never alone."""
