"""Runs at the coordinating centre: rounds, aggregation, records, evaluation, reports."""
