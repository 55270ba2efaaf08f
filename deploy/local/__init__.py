"""Whole federations on one machine: simulation, series of experiments, the demo."""
