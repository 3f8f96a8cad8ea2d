"""Origins of pages that may call the gateway, from the file and from Ollama's variable."""

from tests.support.settings_folder import SettingsFolder


def test_patterns_with_any_scheme_are_taken(folder: SettingsFolder) -> None:
    settings = folder.load(
        "server: {cors_origins: ['chrome-extension://*', 'https://*.Example.com/', 'http://a:*', file://]}"
    )
    assert settings.server.cors_origins == ("chrome-extension://*", "https://*.example.com", "http://a:*", "file://")


def test_ollamas_variable_adds_to_the_file(folder: SettingsFolder) -> None:
    settings = folder.load(
        "server: {cors_origins: [https://a.example]}", OLLAMA_ORIGINS="moz-extension://*, http://b:1"
    )
    assert settings.server.cors_origins == ("https://a.example", "moz-extension://*", "http://b:1")
