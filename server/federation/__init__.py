"""The sites as the coordinator sees them: connected nodes, requests, answers, records."""
