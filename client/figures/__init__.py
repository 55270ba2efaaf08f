"""Figures that a site computes from scores, and the rule for which of them may leave."""
