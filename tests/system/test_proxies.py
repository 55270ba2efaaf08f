"""Which way a connection goes is decided as curl decides it, and loopback never takes a proxy."""

import itertools
import os
import re
import shutil
import subprocess

import pytest

from fedrad.system.proxies import ProxySettingError, is_loopback, not_understood, proxy_for

PROXY = {"HTTPS_PROXY": "http://proxy.hospital.de:8080"}


def goes_directly(host: str, no_proxy: str, port: int = 443) -> bool:
    return proxy_for(host, port, {**PROXY, "NO_PROXY": no_proxy}) is None


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("fedrad.hospital.de", "hospital.de"),
        ("fedrad.hospital.de", ".hospital.de"),
        ("hospital.de", ".hospital.de"),
        ("hospital.de.", "hospital.de"),
        ("hospital.de", "hospital.de."),
        ("FedRad.Hospital.DE", "hospital.de"),
        ("fedrad.hospital.de", " other.de , hospital.de "),
        ("fedrad.hospital.de", "other.de hospital.de"),
        ("fedrad.hospital.de", "other.de,,hospital.de,"),
        ("fedrad.hospital.de", "*"),
        ("fedrad.hospital.de", "fedrad.hospital.de:443"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.9.9.9/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3:443"),
        ("::ffff:10.1.2.3", "10.0.0.0/8"),
        ("[2001:db8::1]", "2001:db8::/32"),
        ("2001:db8::1", "2001:0db8:0::0001"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("2001:db8::1", "[2001:db8::1]:443"),
    ],
)
def test_no_proxy_in_its_forms_leads_past_the_proxy(host, no_proxy):
    assert goes_directly(host, no_proxy)
    assert not_understood({"no_proxy": no_proxy}) == []


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("nothospital.de", "hospital.de"),
        ("hospital.de.example.org", "hospital.de"),
        ("hospital.de", "fedrad.hospital.de"),
        ("fedrad.hospital.de", "fedrad.hospital.de:8000"),
        ("11.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "2001:db8::/32"),
        ("2001:db9::1", "2001:db8::/32"),
        ("fedrad.hospital.de", "10.0.0.0/8"),  # a name is not looked up
        ("fedrad.hospital.de", ""),
        ("fedrad.hospital.de", " "),
    ],
)
def test_other_hosts_go_through_the_proxy(host, no_proxy):
    assert not goes_directly(host, no_proxy)


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("*.hospital.de", "write .hospital.de"),
        ("https://hospital.de", "write the host alone"),
        ("10.*", "write a network as 10.0.0.0/8"),
        ("192.168.", "write a network as 10.0.0.0/8"),
        ("10.0.0.0/40", "write host names"),
        ("a.de;b.de", "with commas"),
        ('"hospital.de"', "write host names"),
        ("[::1", "write host names"),
        ("hospital.de:https", "write host names"),
    ],
)
def test_an_entry_without_a_meaning_is_named_and_changes_nothing(entry, advice):
    (sentence,) = not_understood({"NO_PROXY": f"hospital.de,{entry}"})
    assert sentence.startswith(f"NO_PROXY: {entry!r} is not understood")
    assert advice in sentence
    assert goes_directly("hospital.de", f"{entry},hospital.de")
    for host in ("x.hospital.de", "10.1.2.3", "192.168.1.1", "a.de"):
        assert not goes_directly(host, entry)


def test_a_star_among_others_is_named_as_it_counts_only_alone():
    assert "only as the whole value" in not_understood({"no_proxy": "localhost,*"})[0]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "fedrad.localhost",
        "localhost.localdomain",
        "127.0.0.1",
        "127.9.9.9",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
        "::1",
        "[::1]",
        "::ffff:127.0.0.1",
    ],
)
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("url", ["http://proxy:8080", "socks5://proxy:1080", "nonsense"])
def test_loopback_never_goes_through_a_proxy_whatever_is_set(host, variable, url):
    assert is_loopback(host)
    assert proxy_for(host, 8000, {variable: url}) is None


@pytest.mark.parametrize("host", ["localhost.example.org", "128.0.0.1", "mylocalhost", "::2"])
def test_other_names_are_not_loopback(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "https_proxy"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b:1"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://b:1", "all_proxy": "http://c:1"}, "HTTPS_PROXY"),
        ({"all_proxy": "http://c:1", "ALL_PROXY": "http://d:1"}, "all_proxy"),
        ({"ALL_PROXY": "http://d:1"}, "ALL_PROXY"),
    ],
)
def test_the_variables_count_in_the_order_of_curl(environment, variable):
    found = proxy_for("fedrad.org", 443, environment)
    assert found is not None
    assert found.variable == variable


@pytest.mark.parametrize("environment", [{}, {"HTTP_PROXY": "http://a:1"}, {"http_proxy": "a:1"}])
def test_a_proxy_for_plain_http_is_not_used_for_tls(environment):
    assert proxy_for("fedrad.org", 443, environment) is None


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("proxy:8080", "http://proxy:8080"),
        (" http://proxy.hospital.de:8080/ \n", "http://proxy.hospital.de:8080"),
        ("HTTP://Proxy:8080", "http://Proxy:8080"),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
        ("https://proxy", "https://proxy:443"),
        ("http://my_proxy:8080", "http://my_proxy:8080"),
    ],
)
def test_the_url_of_a_proxy_is_read_with_and_without_its_scheme(value, url):
    found = proxy_for("fedrad.org", 443, {"https_proxy": value})
    assert found is not None
    assert found.url == url


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5://NAME:SECRET@proxy:1080", "a SOCKS proxy is not supported"),
        ("ftp://NAME:SECRET@proxy:21", "is not the URL of a proxy"),
        ("http://NAME:SECRET@proxy", "it names no port"),
        ("http://NAME:SECRET@proxy:0", "0 is no port"),
        ("http://NAME:SECRET@proxy:80800", "80800 is no port"),
        ("http://NAME:SECRET@proxy:port", "is not the URL of a proxy"),
        ("http://NAME:SECRET@[::1:3128", "is not the URL of a proxy"),
        ('"http://NAME:SECRET@proxy:8080"', "without quotation marks"),
        ("http:/NAME:SECRET@proxy:8080:1", "is not the URL of a proxy"),
        ("NAME:SEC://RET@pro xy:1", "is not the URL of a proxy"),
        ("http://NAME:SECRET@", "is not the URL of a proxy"),
        ("http://me:SECRET\udce4@proxy:8080", "is not UTF-8"),  # Latin-1, as the system has it
        ("http://pr\udcf6xy:8080", r"pr\udcf6xy:8080: is not the URL"),
        ("proxy..hospital.de:8080", "is not the URL of a proxy"),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(value, words):
    with pytest.raises(ProxySettingError) as error:
        proxy_for("fedrad.org", 443, {"HTTPS_PROXY": value})
    assert str(error.value).startswith("HTTPS_PROXY=")
    assert words in str(error.value)
    assert str(error.value).encode()
    for secret in ("NAME:S", "SECRET", "SEC:", "RET@"):
        assert secret not in str(error.value)


def test_user_and_password_are_read_and_shown_nowhere():
    found = proxy_for("fedrad.org", 443, {"HTTPS_PROXY": "http://me:s%40c/r#t@proxy:8080"})
    assert found is not None
    assert (found.user, found.password) == ("me", "s@c/r#t")
    assert str(found) == "HTTPS_PROXY=http://proxy:8080 (its user is left out)"
    assert "s@c" not in repr(found)


# Against curl itself

HOSTS = ("hospital.test", "a.hospital.test", "nothospital.test", "10.1.2.3", "[2001:db8::5]")
ENTRIES = (
    *("hospital.test", ".hospital.test", "HOSPITAL.test.", "a.hospital.test", "test", "*"),
    *("*.hospital.test", "10.0.0.0/8", "10.1.2.3", "10.1.2.0/24", "10.1.2.4", "10.", "10.1.2.3/31"),
    *("2001:db8::5", "2001:db9::/32", "2001:db8::6", "192.168.0.0/16"),
    *("http://hospital.test", "hospital", "ospital.test", "0.0.0.0", "192.168.0.0/40"),
)
"""Without networks of IPv6, which curl 7.88 ignores against its manual, and without addresses of
IPv6 that are written in two ways, which it takes for two."""


def curl_goes_directly(host: str, no_proxy: str) -> bool:
    """Nothing answers anywhere: which of two ports was tried is all that counts."""
    told = subprocess.run(
        ["curl", "-sv", "--max-time", "3", "--resolve", "*:9:127.0.0.1", f"https://{host}:9"],
        env={"PATH": os.environ["PATH"], "https_proxy": "http://127.0.0.1:7", "no_proxy": no_proxy},
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    return re.search(r"Trying \S*:7\b", told) is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_goes_the_same_way():
    lists = [
        *((e,) for e in ENTRIES),
        *itertools.islice(itertools.permutations(ENTRIES, 2), 0, None, 7),
    ]
    for entries, host in itertools.product(lists, HOSTS):
        no_proxy = " , ".join(entries)
        assert goes_directly(host, no_proxy) == curl_goes_directly(host, no_proxy), (host, no_proxy)
