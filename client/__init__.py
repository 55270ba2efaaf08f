"""Runs inside a hospital: images, cohort, local training and evaluation, the site's own policy.

What leaves is composed in `app` from the classes of `exchange.messages`, and recorded in the
site's ledger before it goes.
"""
