"""docs/privacy.md lists every field that can leave a site and every policy, and no others."""

import re
import typing

from support.paths import ROOT

from fedrad.client.node.outgoing_errors import NO_REASON, permitted_reason
from fedrad.client.policy.ledger_table import KINDS
from fedrad.client.settings import Policy
from fedrad.exchange import messages
from fedrad.exchange.wire import Wire
from fedrad.flower.bundles import REFUSALS

PAGE = (ROOT / "docs" / "privacy.md").read_text()


def parts(annotation: object) -> list[type[Wire]]:
    if isinstance(annotation, type) and issubclass(annotation, Wire):
        return [annotation]
    return [part for inner in typing.get_args(annotation) for part in parts(inner)]


def fields(kinds: typing.Iterable[type[Wire]]) -> set[str]:
    """`Class.field` of all fields in the replies of a site."""
    names: set[str] = set()
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        own = {f"{kind.__name__}.{name}" for name in kind.model_fields}
        if not own <= names:
            names |= own
            waiting += [p for f in kind.model_fields.values() for p in parts(f.annotation)]
    return names


def test_every_field_that_leaves_is_in_the_tables_and_no_other():
    sent = fields(typing.get_args(messages.Reply))
    documented = set(re.findall(r"`([A-Z][A-Za-z]+\.[a-z0-9_]+)`", PAGE))
    assert {name for name in sent if not name.endswith(".kind")} == documented


def test_every_setting_of_the_policy_is_in_its_table():
    table = PAGE.split("## What the site decides")[1].split("**Approval.**")[0]
    assert set(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE)) == set(Policy.model_fields)


def test_every_kind_of_message_is_explained_to_an_officer():
    kinds = {k.model_fields["kind"].default for k in typing.get_args(messages.Reply)}
    own = {"decision", "policy", "officer key", "membership", "withdrawal"}
    assert kinds | {"error"} | own == set(KINDS)


def test_the_text_sent_for_an_exception_is_a_sentence_of_the_list():
    assert permitted_reason("<class 'OSError'>:<'/data/CANARY'>") == NO_REASON
    assert permitted_reason(None) == NO_REASON
    for refusal in REFUSALS:
        assert permitted_reason(f"<class 'BundleNotApprovedError'>:<'{refusal}'>") == refusal
        assert not re.search(r"[/\\]", refusal)
