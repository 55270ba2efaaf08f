"""The result on the terminal: each site's own figures, also if local-only models were exchanged."""

from support.summaries import make_summary

from fedrad.deploy.commands.table import show_results
from fedrad.server.results.summary import Cell


def test_a_sites_local_only_figure_is_that_of_its_own_model(tmp_path, capsys):
    plain = make_summary(sites=("aachen", "bonn", "celle"))
    visitors = [
        Cell(model=f"local:{a}", site=b, outcome="bpd", missing="declined")
        for a in plain.sites
        for b in plain.sites
        if a != b
    ]
    show_results(plain, tmp_path)
    alone = capsys.readouterr().out
    show_results(plain.model_copy(update={"cells": [*plain.cells, *visitors]}), tmp_path)
    assert capsys.readouterr().out == alone
    assert "aachen" in alone
    assert "declined" not in alone
