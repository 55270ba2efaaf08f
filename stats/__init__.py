"""Figures over sites that keep their scores, from what the sites release."""
