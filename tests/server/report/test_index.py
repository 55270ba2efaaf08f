"""The page over the experiments of a folder, and the report as Markdown."""

from support.summaries import ODD, make_summary, rich
from typer.testing import CliRunner

from fedrad.deploy.commands.main import app
from fedrad.server.report.index import write_index
from fedrad.server.report.report import render_markdown, write_report


def test_an_index_links_the_experiments_of_a_folder_newest_first(tmp_path):
    for month, name in enumerate(("old", "a new"), start=1):
        finished = f"2026-0{month}-01T00:00:00+00:00"
        summary = make_summary()
        provenance = summary.provenance.model_copy(update={"finished": finished})
        experiment = summary.experiment | {"name": f"{name} <b>"}
        folder = tmp_path / "group" / name
        folder.mkdir(parents=True)
        summary.model_copy(update={"provenance": provenance, "experiment": experiment}).write(
            folder
        )
        write_report(folder)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "summary.json").write_text("{}")
    page = write_index(tmp_path).read_text()
    assert page.index('href="group/a%20new/report.html"') < page.index(
        'href="group/old/report.html"'
    )
    assert "0.811" in page
    assert "<b>" not in page
    assert "Not read" in page
    assert "broken" in page
    assert "http" not in page.replace("http-equiv", "")


def test_an_index_of_nothing_says_so(tmp_path):
    assert "No experiment" in write_index(tmp_path).read_text()
    result = CliRunner().invoke(app, ["report", "--index", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "no such folder" in result.output
    assert CliRunner().invoke(app, ["report", "--index", str(tmp_path)]).exit_code == 0


def test_markdown_holds_the_answer_and_the_matrix():
    text = render_markdown(rich())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == "| | base | local-only | global |"
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)
    assert '\\<b\\>&"site"' in text
    assert ODD not in text
    assert "one class" in text
    assert any(
        line.startswith("| within-site |") and "0.811 [0.761–0.861]" in line for line in rows
    )
    assert "Research use only" in text
