"""Training rounds: broadcast, checked updates on disk, aggregation, checkpoint."""
