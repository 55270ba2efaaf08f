"""The sites as the coordinator sees them: who is connected, requests, answers, records."""
