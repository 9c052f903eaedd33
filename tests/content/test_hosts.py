"""One form for each host, whatever it is spelled like, and patterns that are compared in it."""

import pytest

from fleet_rlm.errors import InvalidInput
from fleet_rlm.runtime.content.fetch import check_url
from fleet_rlm.runtime.policy import Policy

NAMED = Policy(ask_hosts=("Evil.COM", "*.Bücher.example", "8.8.8.8", "[2606:4700::1111]", "9.9.*", "localhost."))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://EVIL.com/", "evil.com"), ("http://evil.com./", "evil.com"), ("http://evil.com.:8080/", "evil.com"),
        ("http://\uff45vil.com/", "evil.com"), ("http://evil\u3002com/", "evil.com"), ("http://evil\u2024com/", "evil.com"),
        ("http://a.b\xfccher.example/", "a.xn--bcher-kva.example"), ("http://localhost/", "localhost"),
        ("http://134744072/", "8.8.8.8"), ("http://0x08080808/", "8.8.8.8"), ("http://010.8.8.8/", "8.8.8.8"),
        ("http://8.8.2056/", "8.8.8.8"), ("http://\uff18.8.8.8./", "8.8.8.8"), ("http://[::ffff:8.8.8.8]:80/", "8.8.8.8"),
        ("http://[2606:4700:0::1111]/", "2606:4700::1111"), ("http://9.9.9.9/", "9.9.9.9"),
    ],
)  # fmt: skip
def test_a_host_is_asked_about_however_it_is_spelled(url: str, host: str) -> None:
    parts = check_url(url)
    assert parts.hostname == host
    assert NAMED.asks_host(host) and not Policy(allowed_hosts=NAMED.ask_hosts).asks_host(host)


@pytest.mark.parametrize(
    "url", ["http://good.com/", "http://evil.com.good.com/", "http://8.8.8.9/", "http://dead1.beef/"]
)
def test_other_hosts_are_not(url: str) -> None:
    assert not NAMED.asks_host(check_url(url).hostname or "")


@pytest.mark.parametrize("url", ["http://./", "http://a..b/", f"http://{'x' * 64}.com/", "http://\u2024/"])
def test_what_can_be_no_host_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="address"):
        check_url(url)


def test_the_port_and_the_rest_of_an_address_stay() -> None:
    assert check_url("https://[::FFFF:8.8.8.8]:8443/A?b#c").geturl() == "https://8.8.8.8:8443/A?b#c"
    assert check_url("http://[2606:4700::1111]:80/x").geturl() == "http://[2606:4700::1111]:80/x"


@pytest.mark.parametrize("leads", ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "9.9.9.9", "2606:4700::1111"])
def test_a_name_that_leads_to_a_named_address_is_asked_about(leads: str) -> None:
    assert NAMED.asked_address("dns.example", ["1.1.1.1", leads]) == leads
    assert NAMED.asked_address("evil.com", [leads]) is None, "it was asked about by its name"
    assert Policy(allowed_hosts=("dns.example",)).asked_address("dns.example", [leads]) is None
    assert Policy(ask_hosts=("8.*", "9.*", "64:*"), allowed_hosts=("*",)).asked_address("dns.example", [leads]) is None


def test_a_pattern_of_names_says_nothing_of_addresses() -> None:
    policy = Policy(ask_hosts=("*",), allowed_hosts=("docs.example",))
    assert policy.asked_address("docs.example", ["93.184.216.34"]) is None
    assert Policy(ask_hosts=("*.example",)).asked_address("docs.org", ["93.184.216.34"]) is None
