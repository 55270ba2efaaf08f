"""A ledger that was deleted, shortened or rewritten is found by whoever kept its heads."""

import logging
import time
from pathlib import Path

import pytest
from support.joined import join
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.node import service
from fedrad.client.policy.integrity import prepare_start
from fedrad.client.policy.ledger import Ledger
from fedrad.client.policy.ledger_heads import (
    check_last_head,
    compare_with_heads,
    head_of,
    read_heads,
    write_head_of,
)
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.exchange.messages import Refusal


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.toml").write_text('name = "a"\n')
    return join(open_site(folder, state=tmp_path / "state"))


def ledger_of(site: Site) -> Ledger:
    return Ledger(site.state / "ledger.jsonl")


def fill(site: Site, number: int, reason="hours") -> None:
    for _ in range(number):
        ledger_of(site).record("bpd", Refusal(reason=reason))


def command(site: Site, *arguments: str, given: str = "") -> tuple[int, str]:
    where = ["ledger", str(site.folder), "--state", str(site.state), *arguments]
    result = CliRunner().invoke(app, where, input=given)
    return result.exit_code, result.output


@pytest.fixture
def kept(site: Site, tmp_path: Path) -> Path:
    """Heads that a coordinator keeps: at 4, 7 and 10 lines, among those of another site."""
    heads = ["2026-11-01T00:00:00+00:00 b 99 " + "f" * 64]
    for lines in (2, 3, 3):
        fill(site, lines)
        status, printed = command(site, "--head")
        assert status == 0
        heads.append(printed.strip())
    assert [head.split()[2] for head in heads] == ["99", "4", "7", "10"]
    file = tmp_path / "kept.txt"
    file.write_text("\n".join(heads) + "\n\n")
    fill(site, 1)
    return file


def test_a_ledger_that_only_grew_agrees_with_all_its_heads(site, kept):
    status, printed = command(site, "--against", str(kept))
    assert status == 0, printed
    assert "11 lines and agrees with all heads of a" in printed
    assert command(site, "--against", "-", given=kept.read_text())[0] == 0


def test_a_shortened_ledger_is_found_with_the_lines_that_are_missing(site, kept):
    path = ledger_of(site).path
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    status, printed = command(site, "--against", str(kept))
    assert status == 2
    assert "ALARM" in printed
    assert "the ledger had 10 lines; it has 8 lines now, so the last 2 were removed" in printed
    assert "lines 8 to 10" in printed
    assert "had 7 lines" not in printed


def test_a_ledger_rewritten_with_a_whole_chain_is_found(site, kept):
    path = ledger_of(site).path
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    fill(site, 6, "limit")
    assert len(ledger_of(site).entries()) == 11
    status, printed = command(site, "--against", str(kept))
    assert status == 2
    assert "line 7 is another one now: of lines 5 to 7" in printed
    assert "line 10 is another one now" in printed
    assert "line 4 is" not in printed


def test_a_deleted_ledger_is_an_alarm_and_not_an_empty_one(site, kept):
    ledger_of(site).path.unlink()
    status, printed = command(site, "--against", str(kept))
    assert status == 2
    assert "the ledger is missing or empty" in printed
    (site.state / "membership.json").unlink()
    (site.state / "heads.txt").write_text(kept.read_text().splitlines()[1] + "\n")
    for arguments in ((), ("--head",), ("--json",)):
        status, printed = command(site, *arguments)
        assert status == 2
        assert "is missing, though this site has had one" in printed


def test_heads_that_cannot_be_read_or_are_of_other_sites_say_nothing(site, kept, tmp_path):
    kept.write_text("2026-11-01T00:00:00+00:00 b 99 " + "f" * 64 + "\n")
    status, printed = command(site, "--against", str(kept))
    assert (status, "none of these heads is of a" in printed) == (2, True)
    for text in ("nonsense", "2026-11-01 a 4 \x1b[2J" + "f" * 61, "2026-11-01 a -4 " + "f" * 64):
        status, printed = command(site, "--against", "-", given=text + "\n")
        assert status == 2
        assert "standard input, line 1: no head of a ledger" in printed
        assert "\x1b" not in printed
    status, printed = command(site, "--against", str(tmp_path / "none.txt"))
    assert (status, "No such file" in printed) == (2, True)


def test_the_start_writes_the_head_down_and_each_day_another(site, monkeypatch, caplog):
    membership, head = prepare_start(site, "engineer")
    assert membership.address == "fedrad.example.org:8000"
    file = site.state / "heads.txt"
    assert file.read_text() == f"{head}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert head.hash == ledger_of(site).read().head
    monkeypatch.setattr(service, "HEAD_SECONDS", 0.02)
    fill(site, 1)
    with caplog.at_level(logging.INFO, "fedrad.site"), service._daily_heads(site):
        until = time.monotonic() + 10
        while len(file.read_text().splitlines()) < 3 and time.monotonic() < until:
            time.sleep(0.02)
    heads = read_heads(file.read_text(), "heads.txt")
    assert [h.lines for h in heads][:3] == [2, 3, 3]
    assert not compare_with_heads(ledger_of(site).read(), heads, "a")
    assert str(heads[1]) in caplog.text


def test_a_shortened_ledger_is_not_covered_by_a_new_head(site):
    _, before = prepare_start(site, "engineer")
    fill(site, 2)
    prepare_start(site, "engineer")
    path = ledger_of(site).path
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(SiteProblem, match="shortened or rewritten"):
        prepare_start(site, "engineer")
    assert read_heads((site.state / "heads.txt").read_text(), "heads.txt")[0] == before


def test_a_head_is_of_the_whole_ledger(site):
    fill(site, 3)
    record = ledger_of(site).read()
    head = head_of("a", record)
    assert (head.lines, head.hash) == (5, record.entries[-1]["hash"])
    (again,) = read_heads(str(head), "x")
    assert again == head


def test_a_decision_of_a_person_leaves_a_head(site):
    """What was decided last could otherwise be cut off unseen until the next day."""

    def heads():
        return read_heads((site.state / "heads.txt").read_text(), "heads")

    write_head_of(site)
    before = heads()
    ledger_of(site).note({"kind": "withdrawal", "patients": []})
    write_head_of(site)
    assert len(heads()) == len(before) + 1
    assert heads()[-1].lines == before[-1].lines + 1


def test_heads_whose_disk_is_not_mounted_close_the_site(site):
    (site.state / "heads.txt").symlink_to("/mnt/gone/heads.txt")
    with pytest.raises(SiteProblem, match=r"a link to /mnt/gone/heads\.txt, which is not there"):
        check_last_head(site.state)


def test_a_state_folder_that_is_a_file_is_no_damage_of_the_heads(tmp_path):
    (tmp_path / "state").touch()
    with pytest.raises(SiteProblem, match=r"heads\.txt: cannot be read \(Not a directory\)"):
        check_last_head(tmp_path / "state")
