"""Derived values, and checks across keys."""

import pytest

from penstock.config.settings import TimeoutSettings
from tests.support.settings_folder import SettingsFolder


def test_the_defaults_are_those_of_the_reference(folder: SettingsFolder) -> None:
    settings = folder.load()
    assert (settings.llm.mode, settings.llm.model, settings.llm.timeout) == ("ollama", "llama3.1:8b", 240)
    assert (settings.llm.max_tokens, settings.llm.temperature, settings.llm.stream) == (256, 0.7, False)
    vllm = settings.vllm
    assert (vllm.gpu_memory_utilization, vllm.max_model_len, vllm.tensor_parallel_size) == (0.95, 16384, 1)
    assert (vllm.enable_fp8, vllm.use_flashinfer) == (False, True)
    listen = settings.server
    assert (listen.host, listen.port, listen.max_body, listen.keep_alive) == ("127.0.0.1", 8005, 32 * 2**20, 75)
    assert listen.timeouts == TimeoutSettings(connect=5, first_byte=240, idle=None, total=240)
    assert (settings.queue.max_waiting, settings.queue.max_waiting_per_user, settings.queue.max_wait) == (100, 10, 600)
    assert {name: role.weight for name, role in settings.auth.roles.items()} == {
        "admin": 8,
        "priority": 4,
        "test_user": 1,
    }
    assert settings.chat.chain == ("victoria", "mlx")
    assert settings.data_dir == folder.path / "home/.local/share/penstock"


def test_one_model_variable_is_enough_under_vllm(folder: SettingsFolder) -> None:
    settings = folder.load(LLM_MODE="vllm", LLM_MODEL="a/b")
    assert settings.vllm.model == "a/b"
    assert settings.effective_values["llm.providers.vllm.model"].source == "environment LLM_MODEL"


def test_the_other_model_variable_is_enough_too(folder: SettingsFolder) -> None:
    settings = folder.load(LLM_MODE="vllm", VLLM_MODEL="a/b")
    assert settings.llm.model == "a/b"
    assert settings.effective_values["llm.model"].source == "environment VLLM_MODEL"


def test_the_same_model_in_both_variables_is_right(folder: SettingsFolder) -> None:
    settings = folder.load(LLM_MODE="vllm", LLM_MODEL="a/b", VLLM_MODEL="a/b")
    assert (settings.llm.model, settings.vllm.model, settings.warnings) == ("a/b", "a/b", ())


def test_two_models_under_vllm_stop_the_start_naming_both(folder: SettingsFolder) -> None:
    error = folder.load_error(
        LLM_MODE="vllm", LLM_MODEL="llama3.1:8b", VLLM_MODEL="meta-llama/Meta-Llama-3.1-8B-Instruct"
    )
    assert 'LLM_MODEL (llm.model) is "llama3.1:8b"' in error.message
    assert '"meta-llama/Meta-Llama-3.1-8B-Instruct"' in error.message
    assert "PENSTOCK_ALLOW_MODEL_MISMATCH=1" in error.message


def test_two_models_stop_the_start_wherever_they_are_configured(folder: SettingsFolder) -> None:
    text = "llm:\n  mode: vllm\n  model: a\n  providers:\n    vllm: {model: b}\n"
    assert folder.load_error(text).source.endswith(":5")


def test_two_models_may_be_allowed_and_cause_a_warning(folder: SettingsFolder) -> None:
    settings = folder.load(LLM_MODE="vllm", LLM_MODEL="a", VLLM_MODEL="b", PENSTOCK_ALLOW_MODEL_MISMATCH="1")
    assert (settings.llm.model, settings.vllm.model) == ("a", "b")
    assert 'VLLM_MODEL (llm.providers.vllm.model) is "b"' in settings.warnings[0]


@pytest.mark.parametrize("mode", ["ollama", "none"])
def test_two_models_are_allowed_in_another_mode(folder: SettingsFolder, mode: str) -> None:
    settings = folder.load(LLM_MODE=mode, LLM_MODEL="a", VLLM_MODEL="b")
    assert (settings.llm.model, settings.vllm.model) == ("a", "b")


def test_without_vllm_there_is_no_model_for_it(folder: SettingsFolder) -> None:
    assert folder.load(LLM_MODEL="a").vllm.model == ""


@pytest.mark.parametrize("mode", ["ollama", "vllm"])
def test_a_mode_whose_provider_is_off_is_refused(folder: SettingsFolder, mode: str) -> None:
    error = folder.load_error(f"llm: {{mode: {mode}, providers: {{{mode}: {{enabled: false}}}}}}")
    assert error.message == f"is {mode}, but llm.providers.{mode}.enabled is false; change one of them"


def test_ollama_may_be_off_while_no_mode_is_set(folder: SettingsFolder) -> None:
    settings = folder.load("llm: {providers: {ollama: {enabled: false}, openai: {url: 'http://x:1'}}}")
    assert [server.kind for server in settings.servers if server.configured] == ["openai"]


def test_the_general_timeout_applies_where_no_other_is_set(folder: SettingsFolder) -> None:
    settings = folder.load(LLM_TIMEOUT="30")
    assert settings.server.timeouts == TimeoutSettings(connect=5, first_byte=30, idle=None, total=30)
    assert settings.effective_values["server.timeouts.total"].source == "environment LLM_TIMEOUT"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{total: 0}", TimeoutSettings(5, 240, None, None)),
        ("{total: 60}", TimeoutSettings(5, 60, None, 60)),
        ("{first_byte: 0}", TimeoutSettings(5, None, None, 240)),
        ("{first_byte: 10, idle: 20, total: 30, connect: 1}", TimeoutSettings(1, 10, 20, 30)),
        ("{idle: 0}", TimeoutSettings(5, 240, None, 240)),
        ("{first_byte: null, idle: null, total: null}", TimeoutSettings(5, 240, None, 240)),
        ("{connect: 500ms, total: 10m}", TimeoutSettings(0.5, 240, None, 600)),
    ],
)
def test_timeouts_are_resolved(folder: SettingsFolder, written: str, meant: TimeoutSettings) -> None:
    assert folder.load(f"server: {{timeouts: {written}}}").server.timeouts == meant


@pytest.mark.parametrize("name", ["connect", "first_byte", "idle"])
def test_a_partial_timeout_longer_than_the_total_is_refused(folder: SettingsFolder, name: str) -> None:
    error = folder.load_error(f"llm: {{timeout: 10}}\nserver: {{timeouts: {{{name}: 11}}}}\n")
    assert error.path == f"server.timeouts.{name}"
    assert error.message == ("is 11 s, more than the limit for a whole response (llm.timeout: 10 s); make it shorter")


def test_a_short_general_timeout_alone_is_valid(folder: SettingsFolder) -> None:
    assert folder.load(LLM_TIMEOUT="3").server.timeouts.first_byte == 3


def test_the_queue_limit_of_one_user_cannot_exceed_the_limit_of_all(folder: SettingsFolder) -> None:
    error = folder.load_error("queue: {max_waiting: 5}")
    assert error.path == "queue.max_waiting_per_user"
    assert error.message == "is 10, more than queue.max_waiting (5) for all users"


def test_a_short_token_cannot_outlive_the_long_one(folder: SettingsFolder) -> None:
    error = folder.load_error("auth: {access_token_seconds: 1h, refresh_token_seconds: 10m}")
    assert error.path == "auth.access_token_seconds"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chat: {chain: [victoria, victoria]}", "names a provider twice"),
        ("chat: {chain: [ollama]}", "cannot contain ollama: agent chat never uses Ollama"),
        (
            "chat: {chain: [victoria]}\nllm: {providers: {victoria: {enabled: false}}}",
            "names victoria, but llm.providers.victoria.enabled is false",
        ),
    ],
)
def test_an_impossible_chain_is_refused(folder: SettingsFolder, text: str, message: str) -> None:
    assert folder.load_error(text).message == message


def test_a_provider_that_is_off_leaves_the_usual_chain(folder: SettingsFolder) -> None:
    assert folder.load("llm: {providers: {victoria: {enabled: false}}}").chat.chain == ("mlx",)


def test_models_lists_and_aliases_are_kept_as_written(folder: SettingsFolder) -> None:
    settings = folder.load(
        """
models: {aliases: {"llama3.1:8b": ["meta-llama/Meta-Llama-3.1-8B-Instruct"]}}
routing:
  levels: {trivial: ["gemma3:1b"], complex: []}
  task_types: {code: ["qwen2.5-coder:14b", "qwen3:14b"]}
"""
    )
    assert settings.aliases == {"llama3.1:8b": ("meta-llama/Meta-Llama-3.1-8B-Instruct",)}
    assert settings.routing.levels == {"trivial": ("gemma3:1b",)}
    assert settings.routing.task_types == {"code": ("qwen2.5-coder:14b", "qwen3:14b")}


def test_settings_cannot_be_changed(folder: SettingsFolder) -> None:
    settings = folder.load("models: {aliases: {a: [b]}}")
    with pytest.raises(AttributeError):
        settings.llm = settings.llm  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.aliases["x"] = ()  # type: ignore[index]


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_host_to_listen_on_may_have_brackets(folder: SettingsFolder, host: str) -> None:
    assert folder.load(f"server: {{host: '{host}'}}").server.host == "::1"


def test_effective_values_have_every_key_once_with_its_source(folder: SettingsFolder) -> None:
    settings = folder.load("server:\n  port: 9\nllm:\n  providers:\n    vllm:\n      servers:\n      - url: 'a:1'\n")
    record = settings.effective_values
    path = folder.path / "penstock.yaml"
    assert record["server.port"].source == f"file {path}:2"
    assert record["llm.providers.vllm.servers[0].url"].source == f"file {path}:7"
    assert record["llm.providers.vllm.servers[0].max_concurrent"].source == "default"
    assert record["server.host"].source == "default"


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("llm: {providers: {openai: {url: 'http://x:1', api_key: topsecret}}}", "llm.providers.openai.api_key", "***"),
        ("llm: {providers: {mlx: {url: 'u:topsecret@x:1'}}}", "llm.providers.mlx.url", "***@x:1"),
        (
            "llm: {providers: {ollama: {fallback_urls: ['http://u:topsecret@x', 'u:topsecret@y']}}}",
            "llm.providers.ollama.fallback_urls",
            "[http://***@x, ***@y]",
        ),
        (
            "notifications: {webhooks: [{url: 'https://hooks.example.com/topsecret'}]}",
            "notifications.webhooks[0].url",
            "https://hooks.example.com/***",
        ),
        ("storage: {database_url: 'postgresql://u:topsecret@db/x'}", "storage.database_url", "postgresql://***@db/x"),
        ("auth: {secret_key: topsecrettopsecret}", "auth.secret_key", "***"),
        ("auth: {refresh_token_seconds: 30d}", "auth.refresh_token_seconds", "2592000"),
        ("llm: {temperature: 0.25}", "llm.temperature", "0.25"),
        ("chat: {chain: [mlx]}", "chat.chain", "[mlx]"),
    ],
)
def test_effective_values_are_formatted_as_people_write_them_without_secrets(
    folder: SettingsFolder, text: str, key: str, expected: str
) -> None:
    settings = folder.load(text)
    assert settings.effective_values[key].value == expected
    assert "topsecret" not in repr(settings)
    assert "topsecret" not in "".join(one.value for one in settings.effective_values.values())
