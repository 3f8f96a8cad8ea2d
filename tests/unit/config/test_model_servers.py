"""Model servers built from the settings."""

import pytest

from tests.support.settings_folder import SettingsFolder, find_server, list_configured

DISTRIBUTED = """
llm:
  providers:
    ollama:
      enabled: true

      # Основной сервер (мощный GPU сервер)
      base_url: http://192.168.178.126:11434

      # Резервные URL
      fallback_urls:
        - ollama-server.local:11434  # mDNS
        - ollama.local:11434

      # Дополнительные серверы
      additional_servers:
        - name: localhost
          url: http://localhost:11434
          priority: SECONDARY

        - name: backup_gpu
          url: http://192.168.178.200:11434
          priority: FALLBACK

      # Включить распределённый режим
      distributed_mode: true

      # Авто-обнаружение (опционально)
      auto_discover: true
"""


def providers(text: str) -> str:
    """Return a file with this text under `llm.providers`."""
    lines = "".join(f"    {line}\n" for line in text.strip("\n").splitlines())
    return f"llm:\n  providers:\n{lines}"


def test_the_distributed_example_yields_three_servers(folder: SettingsFolder) -> None:
    settings = folder.load(DISTRIBUTED)
    ollama = [one for one in settings.servers if one.kind == "ollama"]
    assert [(one.name, one.priority, one.configured) for one in ollama] == [
        ("primary", "PRIMARY", True),
        ("localhost", "SECONDARY", True),
        ("backup_gpu", "FALLBACK", True),
    ]
    assert ollama[0].urls == (
        "http://192.168.178.126:11434",
        "http://ollama-server.local:11434",
        "http://ollama.local:11434",
    )
    assert list_configured(settings) == ["primary", "localhost", "backup_gpu"]
    assert settings.distributed
    assert settings.auto_discover
    assert settings.anything_configured


def test_the_example_may_stand_in_the_backend_folder(folder: SettingsFolder) -> None:
    folder.write(DISTRIBUTED, "backend/config/config.yaml")
    assert len(list_configured(folder.load())) == 3


def test_two_servers_of_equal_priority_need_no_main_one(folder: SettingsFolder) -> None:
    settings = folder.load(
        providers("""
ollama:
  additional_servers:
    - {name: code_server, url: http://192.168.178.100:11434, priority: PRIMARY}
    - {name: chat_server, url: http://192.168.178.101:11434, priority: primary}
""")
    )
    assert list_configured(settings) == ["code_server", "chat_server"]
    assert {one.priority for one in settings.servers if one.configured} == {"PRIMARY"}
    assert not find_server(settings, "localhost").configured


@pytest.mark.parametrize("url", ["http://gpu:11434", "gpu", "http://localhost:11435"])
def test_localhost_joins_as_secondary_when_the_main_server_is_elsewhere(folder: SettingsFolder, url: str) -> None:
    localhost = find_server(folder.load(OLLAMA_URL=url), "localhost")
    assert (localhost.urls, localhost.priority, localhost.configured) == (
        ("http://localhost:11434",),
        "SECONDARY",
        False,
    )


@pytest.mark.parametrize("key", ["include_localhost", "distributed_mode"])
@pytest.mark.parametrize("server", ["base_url: 'http://localhost:11435'", "additional_servers: [{url: gpu}]"])
def test_localhost_is_kept_out(folder: SettingsFolder, key: str, server: str) -> None:
    section = f"ollama: {{{server}, {key}: false}}"
    settings = folder.load(providers(section))
    assert all(one.urls != ("http://localhost:11434",) for one in settings.servers)


@pytest.mark.parametrize("url", ["http://localhost:11434", "127.0.0.1", "http://[::1]:11434/v1", "localhost/api"])
def test_localhost_does_not_join_twice(folder: SettingsFolder, url: str) -> None:
    ollama = [one for one in folder.load(OLLAMA_URL=url).servers if one.kind == "ollama"]
    assert [(one.name, one.configured) for one in ollama] == [("primary", True)]


def test_localhost_does_not_join_if_another_kind_is_configured_there(folder: SettingsFolder) -> None:
    settings = folder.load(providers("openai: {servers: [{name: local, url: 'http://localhost:11434/v1'}]}"))
    assert [one.name for one in settings.servers if one.urls == ("http://localhost:11434",)] == ["local"]


def test_localhost_as_another_address_of_the_main_server_is_not_a_second_server(folder: SettingsFolder) -> None:
    settings = folder.load(providers("ollama: {base_url: gpu, fallback_urls: [localhost]}"))
    assert [one.name for one in settings.servers if one.kind == "ollama"] == ["primary"]


def test_additional_servers_are_secondary_unless_configured_otherwise(folder: SettingsFolder) -> None:
    settings = folder.load(providers("ollama: {base_url: a, additional_servers: [{name: b, url: b}]}"))
    assert find_server(settings, "b").priority == "SECONDARY"


def test_fallback_addresses_without_a_main_one_belong_to_localhost(folder: SettingsFolder) -> None:
    primary = find_server(folder.load(providers("ollama: {fallback_urls: [ollama.local]}")), "primary")
    assert primary.urls == ("http://localhost:11434", "http://ollama.local:11434")
    assert primary.configured


def test_vllm_takes_sixteen_calls_at_a_time_and_others_two(folder: SettingsFolder) -> None:
    assert {one.kind: one.max_concurrent for one in folder.load().servers} == {
        "ollama": 2,
        "vllm": 16,
        "llamacpp": 2,
        "mlx": 2,
        "victoria": 2,
    }


def test_all_settings_of_a_server_are_applied(folder: SettingsFolder) -> None:
    folder.write("certificate", "ca.pem")
    ca = folder.path / "ca.pem"
    settings = folder.load(
        providers(f"""
vllm:
  servers:
    - name: big
      url: https://gpu.example.com/llm/v1
      api_key: sk-secret
      priority: FALLBACK
      max_concurrent: 64
      models: [a/b, c]
      verify_tls: {ca}
      timeout: 900
""")
    )
    big = find_server(settings, "big")
    assert (big.kind, big.urls, big.api_key) == ("vllm", ("https://gpu.example.com/llm",), "sk-secret")
    assert (big.priority, big.max_concurrent, big.models, big.verify_tls) == ("FALLBACK", 64, ("a/b", "c"), str(ca))
    assert (big.timeouts.total, big.timeouts.first_byte, big.timeouts.connect) == (900, 900, 5)
    assert "sk-secret" not in repr(settings)


def test_certificates_may_be_left_unchecked(folder: SettingsFolder) -> None:
    settings = folder.load(providers("openai: {url: 'https://x', verify_tls: false}"))
    assert find_server(settings, "openai").verify_tls is False


def test_a_certificate_file_that_is_missing_stops_the_start(folder: SettingsFolder) -> None:
    error = folder.load_error(providers("openai: {url: 'https://x', verify_tls: /no/such.pem}"))
    assert error.path == "llm.providers.openai.verify_tls"
    assert "path of an existing file" in error.message


def test_servers_without_names_are_named_after_their_kind(folder: SettingsFolder) -> None:
    settings = folder.load(
        providers("""
llamacpp: {servers: [{url: "a:1"}, {url: "a:2"}, {name: llamacpp-2, url: "a:3"}, {url: "a:4"}]}
""")
    )
    assert list_configured(settings) == ["llamacpp", "llamacpp-3", "llamacpp-2", "llamacpp-4"]


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "mlx", "openai", "victoria"])
def test_every_kind_takes_one_url_and_a_list_of_servers(folder: SettingsFolder, kind: str) -> None:
    settings = folder.load(providers(f"{kind}: {{url: 'http://a:1', servers: [{{url: 'http://b:1'}}]}}"))
    assert [(one.name, one.urls) for one in settings.servers if one.kind == kind] == [
        (kind, ("http://a:1",)),
        (f"{kind}-2", ("http://b:1",)),
    ]
    assert {one.priority for one in settings.servers if one.kind == kind} == {"PRIMARY"}


@pytest.mark.parametrize("kind", ["ollama", "vllm", "llamacpp", "mlx", "openai", "victoria"])
def test_a_provider_that_is_turned_off_has_no_servers(folder: SettingsFolder, kind: str) -> None:
    key = "base_url" if kind == "ollama" else "url"
    settings = folder.load(providers(f"{kind}: {{enabled: false, {key}: 'http://a:1'}}"))
    assert kind not in {one.kind for one in settings.servers}


@pytest.mark.parametrize("kind", ["ollama", "vllm", "llamacpp", "mlx", "victoria"])
def test_a_provider_that_is_turned_on_is_at_its_usual_address(folder: SettingsFolder, kind: str) -> None:
    settings = folder.load(providers(f"{kind}: {{enabled: true}}"))
    assert [one.configured for one in settings.servers if one.kind == kind] == [True]


def test_an_explicit_mode_makes_its_provider_configured(folder: SettingsFolder) -> None:
    assert list_configured(folder.load(LLM_MODE="vllm")) == ["vllm"]
    assert list_configured(folder.load(LLM_MODE="ollama")) == ["primary"]


def test_with_the_models_turned_off_nothing_is_probed_by_default(folder: SettingsFolder) -> None:
    assert folder.load(LLM_MODE="none").servers == ()
    assert list_configured(folder.load(LLM_MODE="none", OLLAMA_URL="http://gpu")) == ["primary"]


def test_llama_cpp_is_probed_only_while_nothing_is_configured(folder: SettingsFolder) -> None:
    assert "llamacpp" in {one.kind for one in folder.load().servers}
    assert "llamacpp" not in {one.kind for one in folder.load("").servers}


def test_a_list_of_servers_takes_the_place_of_the_usual_address(folder: SettingsFolder) -> None:
    settings = folder.load(providers("vllm: {servers: [{url: 'gpu:8000'}]}"))
    assert [one.urls for one in settings.servers if one.kind == "vllm"] == [("http://gpu:8000",)]


def test_configured_servers_come_first(folder: SettingsFolder) -> None:
    flags = [one.configured for one in folder.load(VICTORIA_URL="http://agent:8010").servers]
    assert flags == sorted(flags, reverse=True)
    assert flags[0]


@pytest.mark.parametrize("url", ["http://vllm:8001/v1", "http://vllm:8001", "vllm:8001/v1/"])
def test_the_address_of_vllm_may_end_in_v1(folder: SettingsFolder, url: str) -> None:
    assert find_server(folder.load(LLM_VLLM_URL=url), "vllm").urls == ("http://vllm:8001",)


def test_the_second_name_of_the_vllm_variable_wins_with_a_warning(folder: SettingsFolder) -> None:
    settings = folder.load(VLLM_URL="http://a:1", LLM_VLLM_URL="http://b:1/v1")
    assert find_server(settings, "vllm").urls == ("http://b:1",)
    assert settings.warnings == ("VLLM_URL and LLM_VLLM_URL differ. LLM_VLLM_URL is used; set only one of the two.",)


def test_two_spellings_of_one_vllm_address_cause_no_warning(folder: SettingsFolder) -> None:
    settings = folder.load(VLLM_URL="http://localhost:8000", LLM_VLLM_URL="http://127.0.0.1:8000/v1")
    assert settings.warnings == ()


def test_a_variable_may_name_a_server_that_the_file_describes(folder: SettingsFolder) -> None:
    settings = folder.load(
        providers("vllm: {servers: [{name: gpu, url: 'http://gpu:8000', api_key: k}]}"), VLLM_URL="http://gpu:8000/v1"
    )
    assert list_configured(settings) == ["gpu"]


def test_several_ollama_servers_in_one_variable_are_equals(folder: SettingsFolder) -> None:
    settings = folder.load(OLLAMA_BASE_URLS="http://a:11434; b ;https://c/ollama;")
    assert [(one.name, one.urls[0], one.priority) for one in settings.servers if one.configured] == [
        ("primary", "http://a:11434", "PRIMARY"),
        ("ollama", "http://b:11434", "PRIMARY"),
        ("ollama-2", "https://c/ollama", "PRIMARY"),
    ]


def test_the_main_server_of_several_is_the_one_with_its_own_variable(folder: SettingsFolder) -> None:
    settings = folder.load(OLLAMA_URL="http://b", OLLAMA_BASE_URLS="http://a:11434;http://b:11434")
    assert [one.urls[0] for one in settings.servers if one.configured] == ["http://b:11434", "http://a:11434"]


def test_ollama_servers_of_a_variable_replace_those_of_the_file_with_a_warning(folder: SettingsFolder) -> None:
    settings = folder.load(DISTRIBUTED, OLLAMA_BASE_URLS="x;y")
    assert list_configured(settings) == ["primary", "ollama"]
    assert "OLLAMA_BASE_URLS replaces llm.providers.ollama.additional_servers" in settings.warnings[0]


def test_one_address_twice_is_refused_with_both_places(folder: SettingsFolder) -> None:
    error = folder.load_error(
        providers("""
vllm:
  servers:
    - {name: a, url: http://localhost:8000}
    - {name: b, url: http://127.0.0.1:8000/v1}
""")
    )
    assert error.path == "llm.providers.vllm.servers[1].url"
    assert error.source.endswith("penstock.yaml:6")
    assert error.message == f'is already the address of server "a" ({folder.path / "penstock.yaml"}:5)'


def test_one_address_under_two_kinds_is_refused(folder: SettingsFolder) -> None:
    error = folder.load_error(providers("vllm: {url: 'gpu:8000'}\nopenai: {url: 'http://gpu:8000/v1'}"))
    assert 'is already the address of server "vllm"' in error.message


def test_a_variable_that_moves_the_main_server_onto_another_is_refused(
    folder: SettingsFolder,
) -> None:
    error = folder.load_error(DISTRIBUTED, OLLAMA_URL="http://localhost:11434")
    assert error.path == "llm.providers.ollama.additional_servers[0].url"
    assert error.message == 'is already the address of server "primary" (environment OLLAMA_URL)'


@pytest.mark.parametrize("name", ["primary", "gpu"])
def test_one_name_twice_is_refused(folder: SettingsFolder, name: str) -> None:
    error = folder.load_error(
        providers(f"""
ollama:
  base_url: a
  additional_servers: [{{name: gpu, url: b}}]
llamacpp:
  servers: [{{name: {name}, url: "c:1"}}]
""")
    )
    assert error.path == "llm.providers.llamacpp.servers[0].name"
    assert f'is "{name}", which is already the name of another server' in error.message


@pytest.mark.parametrize("name", ["", "with space", "имя", "a/b", "-a", "x" * 65, "a\\nb"])
def test_a_name_that_cannot_stand_in_a_header_is_refused(folder: SettingsFolder, name: str) -> None:
    errors = folder.load_errors(providers(f'vllm: {{servers: [{{name: "{name}", url: "a:1"}}]}}'))
    assert [error.path for error in errors] == ["llm.providers.vllm.servers[0].name"]


def test_credentials_in_an_address_are_separated_and_never_printed(folder: SettingsFolder) -> None:
    settings = folder.load(OLLAMA_URL="https://user:s3cret@ollama.example.com")
    primary = find_server(settings, "primary")
    assert (primary.urls, primary.credentials) == (("https://ollama.example.com",), "user:s3cret")
    assert "s3cret" not in repr(settings)
    assert settings.effective_values["llm.providers.ollama.base_url"].value == "https://***@ollama.example.com"


def test_credentials_and_a_key_cannot_go_together(folder: SettingsFolder) -> None:
    error = folder.load_error(providers("openai: {url: 'https://u:p@x', api_key: k}"))
    assert error.message == "cannot be combined with credentials in the address; keep one"


def test_addresses_of_one_server_cannot_have_different_credentials(folder: SettingsFolder) -> None:
    error = folder.load_error(providers("ollama: {base_url: 'http://u:p@a', fallback_urls: ['http://v:q@b']}"))
    assert error.path == "llm.providers.ollama.fallback_urls[0]"


def test_options_of_a_provider_without_an_address_are_refused_with_advice(folder: SettingsFolder) -> None:
    error = folder.load_error(providers("vllm: {api_key: k, servers: [{url: 'a:1'}]}"))
    assert error.path == "llm.providers.vllm.api_key"
    assert error.message == "belongs to `url`, which is not set; set it for each of `servers`"


@pytest.mark.parametrize("section", ["{enabled: true}", "{api_key: k}", "{max_concurrent: 4}"])
def test_an_openai_provider_without_an_address_is_refused(folder: SettingsFolder, section: str) -> None:
    error = folder.load_error(providers(f"openai: {section}"))
    assert error.message == "names no server; set `url` or a list of `servers`"


def test_an_agents_timeout_is_ten_minutes_and_a_models_the_general_one(folder: SettingsFolder) -> None:
    settings = folder.load(LLM_TIMEOUT="60")
    assert {one.kind: one.timeouts.total for one in settings.servers} == {
        "ollama": 60,
        "vllm": 60,
        "llamacpp": 60,
        "mlx": 60,
        "victoria": 600,
    }


@pytest.mark.parametrize(
    ("general", "own", "total", "first_byte"),
    [
        ("", "timeout: 30", 30, 30),
        ("", "timeout: 900", 900, 900),
        ("", "timeout: 0", None, None),
        ("first_byte: 20", "timeout: 900", 900, 20),
        ("first_byte: 20", "timeout: 10", 10, 10),
        ("first_byte: 20", "timeout: 0", None, 20),
        ("total: 0", "", None, 240),
        ("total: 1000", "", 1000, 240),
    ],
)
def test_a_servers_own_timeout_limits_its_complete_response_and_the_first_byte(
    folder: SettingsFolder, general: str, own: str, total: float | None, first_byte: float | None
) -> None:
    text = providers(f"vllm: {{url: 'a:1', {own}}}") + f"server: {{timeouts: {{{general}}}}}\n"
    timeouts = find_server(folder.load(text), "vllm").timeouts
    assert (timeouts.total, timeouts.first_byte) == (total, first_byte)
