"""Evaluation figures: of the scores of one site, and over all sites from what they release."""
