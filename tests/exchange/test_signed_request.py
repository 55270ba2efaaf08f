"""The header with which a node signs its requests: everything of a request is in it."""

import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import given
from hypothesis import strategies as st

from fedrad.exchange import clocks
from fedrad.exchange.signed_request import (
    SignedRequest,
    SignedRequestError,
    key_id,
    sign_request,
)

KEY = ec.derive_private_key(7, ec.SECP384R1())
PUBLIC = KEY.public_key()
ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
PATH = "/v1/fleet/push-object"
RELEASE = "0.2.0+sha256:" + "1f" * 32
NOW = datetime(2026, 11, 28, 11, 30, 0, 25, tzinfo=UTC)


def header(**given) -> str:
    return sign_request(KEY, "POST", PATH, b"weights", release=RELEASE, now=NOW, **given)


def test_a_header_says_all_that_was_signed():
    signed = SignedRequest.read(header().encode())
    signed.verify(PUBLIC, "POST", PATH)
    assert signed.key == key_id(PUBLIC)
    assert signed.signed_at == NOW
    assert (signed.length, signed.release) == (7, RELEASE)
    assert len(bytes.fromhex(signed.nonce)) == 16
    assert SignedRequest.read(header().encode()).nonce != signed.nonce


def test_another_method_path_or_key_is_not_what_was_signed():
    signed = SignedRequest.read(header().encode())
    other = ec.derive_private_key(8, ec.SECP384R1()).public_key()
    for key, method, path in (
        (PUBLIC, "GET", PATH),
        (PUBLIC, "POST", "/v1/fleet/push-messages"),
        (other, "POST", PATH),
    ):
        with pytest.raises(SignedRequestError, match="not the signature of this request"):
            signed.verify(key, method, path)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_header_that_was_changed_is_refused(at, change):
    good = header().encode()
    damaged = bytearray(good)
    damaged[at % len(damaged)] ^= change
    with pytest.raises(SignedRequestError):
        SignedRequest.read(bytes(damaged)).verify(PUBLIC, "POST", PATH)


def test_the_twin_of_a_signature_is_of_the_same_nonce():
    """(r, n - s) is a valid signature of the same bytes; so a gate remembers nonces."""
    text = header()
    fields, _, signature = text.rpartition(";")
    r, s = decode_dss_signature(b64decode(signature))
    twin = b64encode(encode_dss_signature(r, ORDER - s)).decode()
    assert twin != signature
    read = SignedRequest.read(f"{fields};{twin}".encode())
    read.verify(PUBLIC, "POST", PATH)
    assert read.nonce == SignedRequest.read(text.encode()).nonce


@pytest.mark.parametrize(
    "text",
    ["", ";" * 7, "a" * 500, "1;2;3", "\xff" * 40, header().replace("2026-11", "2026-13")],
)
def test_what_is_no_header_is_refused(text):
    with pytest.raises(SignedRequestError, match="not understood"):
        SignedRequest.read(text.encode("latin-1"))


def test_another_format_says_that_the_releases_differ():
    with pytest.raises(SignedRequestError, match="has format 2 and not 1; site and coordinator"):
        SignedRequest.read(re.sub("^1;", "2;", header()).encode())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-10920.4, "3 h 2 min behind"),
        (45, "45 s ahead of"),
        (3600, "1 h ahead of"),
        (-90000, "1 d 1 h behind"),
        (86405, "1 d ahead of"),
        (0.2, "0 s ahead of"),
    ],
)
def test_a_difference_of_clocks_in_words(seconds, words):
    assert clocks.difference(seconds) == words
    assert f"hospital-a: its clock is {words} this machine's" in clocks.for_the_coordinator(
        "hospital-a", seconds
    )
    assert f"this machine's clock is {words} the coordinator's" in clocks.for_the_site(seconds)
