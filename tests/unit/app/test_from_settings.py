"""Settings of the search for servers and of the gateway's own announcement."""

import pytest

from penstock.app.from_settings import build_search, build_servers
from penstock.control.discovery.dns_sd import Announcement
from tests.support.settings_folder import SettingsFolder


def ollama(text: str) -> str:
    return f"llm: {{providers: {{ollama: {{{text}}}}}}}\n"


def test_nothing_is_searched_or_announced_by_default(folder: SettingsFolder) -> None:
    search = build_search(folder.load())

    assert not search.is_enabled
    assert search.announcement is None


def test_the_network_is_searched_when_a_setting_says_so(folder: SettingsFolder) -> None:
    settings = folder.load(ollama("auto_discover: true, discover_subnets: [192.168.178.7/24]"))
    search = build_search(settings, 8005)

    assert search.mdns
    assert search.subnets == ("192.168.178.0/24",)
    assert search.servers == build_servers(settings)
    assert search.port == 8005


def test_subnets_alone_are_enough_to_scan_them(folder: SettingsFolder) -> None:
    search = build_search(folder.load(ollama("discover_subnets: [10.0.0.0/28]")))

    assert search.is_enabled
    assert not search.mdns


def test_no_ollama_means_no_search_for_it(folder: SettingsFolder) -> None:
    text = ollama("enabled: false, auto_discover: true, discover_subnets: [10.0.0.0/28]")

    assert not build_search(folder.load(text)).is_enabled


@pytest.mark.parametrize(
    ("subnet", "why"),
    [
        ("8.8.8.0/24", "private"),
        ("10.0.0.0/16", "too large"),
        ("0.0.0.0/0", "private"),
        ("fd00::/120", "IPv4"),
        ("192.168.1.300/24", "IPv4"),
        ("my network", "IPv4"),
    ],
)
def test_ranges_that_are_public_or_too_large_are_refused(folder: SettingsFolder, subnet: str, why: str) -> None:
    error = folder.load_error(ollama(f"discover_subnets: ['{subnet}']"))

    assert error.path == "llm.providers.ollama.discover_subnets[0]"
    assert why in error.message


@pytest.mark.parametrize(
    ("server", "announced"),
    [
        ("host: 127.0.0.1", False),
        ("host: localhost", False),
        ("host: '::1'", False),
        ("host: 0.0.0.0", True),
        ("host: 192.168.178.5", True),
        ("host: 0.0.0.0, announce: false", False),
        ("host: 127.0.0.1, announce: true", True),
    ],
)
def test_the_gateway_is_announced_when_others_can_reach_it_or_a_setting_says_so(
    folder: SettingsFolder, server: str, announced: bool
) -> None:
    settings = folder.load(f"server: {{{server}}}")

    assert settings.server.announce is announced
    assert (build_search(settings).announcement is not None) is announced


def test_what_is_announced_is_where_the_gateway_listens(folder: SettingsFolder) -> None:
    announcement = build_search(folder.load("server: {host: 192.168.178.5, port: 0}"), 4711).announcement

    assert isinstance(announcement, Announcement)
    assert (announcement.type, announcement.port) == ("_penstock._tcp", 4711)
    assert announcement.addresses == ("192.168.178.5",)
    assert build_search(folder.load("server: {host: 0.0.0.0}")).announcement.addresses == ()


def test_an_unknown_type_of_task_is_refused(folder: SettingsFolder) -> None:
    assert folder.load("routing: {task_types: {code: [a]}}").routing.task_types == {"code": ("a",)}
    assert folder.load_error("routing: {task_types: {coding: [a]}}").path.startswith("routing.task_types")
