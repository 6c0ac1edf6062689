"""What `headrace demo` runs: a broker, a worker a pipeline, simulated events, and a subscriber that measures."""
