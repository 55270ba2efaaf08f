"""Checks of cohort, machine and route to the coordinator before an experiment."""
