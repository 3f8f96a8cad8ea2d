"""Distributed routing exactly as its document describes it: the examples, the metadata, the log."""

import itertools
import json
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.sim import Simulator
from tests.acceptance.distributed import (
    EXAMPLES,
    EXPLANATION,
    GREETING,
    LOCAL,
    REMOTE,
    SIM_TEXT,
    SURFACES,
    SYSTEM,
    Fleet,
    Route,
    ask,
    build_bodies,
    build_messages,
    instant_ollama,
    parse_route,
    render_fleet_settings,
    route_text,
    run_distributed_gateway,
)
from tests.support.gateway_process import Gateway, run_gateway_process
from tests.support.simulators import Simulators

each_example = pytest.mark.parametrize("text", EXAMPLES, ids=["a greeting", "an explanation", "a system"])
METADATA = ("model", "provider", "distributed_routing", "server_used", "complexity_level", "used_fast_model")


@pytest.fixture(scope="module")
def pair(simulators: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Fleet]]:
    """A gateway in front of the two servers, which answer without delay."""
    with run_distributed_gateway(simulators, tmp_path_factory.mktemp("pair")) as both:
        yield both


@pytest.fixture(scope="module")
def running(pair: tuple[Gateway, Fleet]) -> Gateway:
    return pair[0]


@pytest.mark.parametrize("path", SURFACES)
@each_example
def test_each_example_is_routed_as_documented_in_every_api(running: Gateway, path: str, text: str) -> None:
    wanted = EXAMPLES[text]
    assert parse_route(ask(running, text, path)) == Route(wanted.level, wanted.model, wanted.server)


@each_example
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_streams_are_routed_alike(running: Gateway, path: str, text: str) -> None:
    wanted = EXAMPLES[text]
    answer = ask(running, text, path, stream=True)
    assert parse_route(answer) == Route(wanted.level, wanted.model, wanted.server)
    assert len(answer.text.splitlines()) > 3  # in pieces


@pytest.mark.parametrize("paced", [False, True], ids=["without delay", "with the pace of such machines"])
def test_the_examples_are_routed_alike_in_any_order(simulators: Simulators, tmp_path: Path, paced: bool) -> None:
    orders = list(itertools.permutations(EXAMPLES))
    random.Random(4).shuffle(orders)
    with run_distributed_gateway(simulators, tmp_path, paced=paced) as (fresh, _):
        for number, order in enumerate(orders):
            for text in order:
                path = SURFACES[number % len(SURFACES)]
                wanted = EXAMPLES[text]
                assert parse_route(ask(fresh, text, path)) == Route(wanted.level, wanted.model, wanted.server), (
                    order,
                    path,
                )


def test_a_fitting_model_answers_whatever_was_used_before(simulators: Simulators, tmp_path: Path) -> None:
    """A model in memory may precede one that must be loaded."""
    fitting = {"trivial": {*LOCAL, *REMOTE}, "moderate": set(REMOTE), "complex": {"qwen2.5-coder:14b", "llama3.3:70b"}}
    with run_distributed_gateway(simulators, tmp_path) as (fresh, _):
        for model in (*REMOTE, *LOCAL):
            assert parse_route(ask(fresh, GREETING, model=model)).model == model
            for text, wanted in EXAMPLES.items():
                answer = parse_route(ask(fresh, text))
                assert answer.level == wanted.level
                assert answer.model in fitting[wanted.level], model


def test_the_metadata_are_as_documented(pair: tuple[Gateway, Fleet]) -> None:
    running, servers = pair
    answer = running.post("/api/v1/chat", {"message": GREETING}).json()
    assert (answer["success"], answer["message"]) == (True, SIM_TEXT)
    assert {key: answer["metadata"][key] for key in METADATA} == {
        "model": "gemma3:1b",
        "provider": "ollama",
        "distributed_routing": True,
        "server_used": servers.local.url,
        "complexity_level": "trivial",
        "used_fast_model": True,
    }
    assert "warning" not in answer
    assert answer["metadata"]["fallback"] is False


@each_example
def test_the_metadata_contain_level_task_type_and_reason(pair: tuple[Gateway, Fleet], text: str) -> None:
    running, servers = pair
    wanted = EXAMPLES[text]
    metadata = running.post("/chat", {"message": text}).json()["metadata"]
    assert (metadata["complexity_level"], metadata["task_type"], metadata["model"]) == (
        wanted.level,
        wanted.task_type,
        wanted.model,
    )
    assert metadata["server_used"] == (servers.local if wanted.server == "localhost" else servers.remote).url
    assert metadata["used_fast_model"] is (wanted.level == "trivial")
    assert metadata["reason"].startswith(f"{wanted.level} {wanted.task_type}: ")


def test_the_headers_contain_the_reason(running: Gateway) -> None:
    head = ask(running, SYSTEM, "/v1/chat/completions").headers
    assert head["x-penstock-complexity"] == "complex"
    assert head["x-penstock-reason"] == "complex code: the fitting model that answers soonest"
    assert head["x-penstock-fallback"] == "false"


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("auto:fast", ("gemma3:1b", "localhost")),
        ("auto:balanced", ("gemma3:12b", "remote")),
        ("auto:powerful", ("llama3.3:70b", "remote")),
        ("auto:code", ("qwen2.5-coder:14b", "remote")),
        ("AUTO", ("gemma3:1b", "localhost")),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/chat", "/chat", "/v1/chat/completions", "/api/chat", "/v1/messages"])
def test_a_model_class_overrides_the_classification(
    running: Gateway, path: str, model: str, wanted: tuple[str, str]
) -> None:
    found = parse_route(ask(running, GREETING, path, model=model))
    assert (found.model, found.server) == wanted


@pytest.mark.parametrize("mode", ["fast", "balanced", "powerful", "code"])
def test_the_mode_of_a_message_is_a_model_class_too(running: Gateway, mode: str) -> None:
    by_mode = parse_route(ask(running, SYSTEM, mode=mode))
    assert by_mode == parse_route(ask(running, SYSTEM, model=f"auto:{mode}"))


def test_an_unknown_model_class_is_rejected_with_the_known_ones(running: Gateway) -> None:
    answer = ask(running, GREETING, "/v1/chat/completions", model="auto:quick")
    assert answer.status_code == 400
    assert "auto:fast, auto:balanced, auto:powerful, auto:code" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", SURFACES)
@pytest.mark.parametrize(
    ("model", "server"), [("gemma3:1b", "localhost"), ("phi3:3b", "localhost"), ("llama3.3:70b", "remote")]
)
def test_a_named_model_answers_without_a_classification(running: Gateway, path: str, model: str, server: str) -> None:
    for text in (GREETING, SYSTEM):
        assert parse_route(ask(running, text, path, model=model)) == Route("", model, server)


def test_a_short_follow_up_keeps_the_model_of_the_conversation(running: Gateway) -> None:
    history = [{"role": "user", "content": SYSTEM}, {"role": "assistant", "content": "Вот код: …"}]
    found = parse_route(ask(running, "Продолжай", history=history))
    assert (found.level in ("moderate", "complex"), found.server) == (True, "remote")


def test_images_and_tools_go_to_models_that_support_them(running: Gateway) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    seen = [
        {"type": "text", "text": "Что тут?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
    ]
    answer = running.post("/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": seen}]})
    assert parse_route(answer).model == "gemma3:12b"
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    answer = running.post(
        "/v1/chat/completions", {"model": "auto", "messages": build_messages("Какая погода?"), "tools": [tool]}
    )
    assert parse_route(answer).model not in ("gemma3:12b", "gemma3:1b", "phi3:3b")


def test_the_log_has_the_documented_lines(simulators: Simulators, tmp_path: Path) -> None:
    many = (*REMOTE, *(f"tiny{number}:0.5b" for number in range(11)))
    main, local = simulators.start(instant_ollama(*many)), simulators.start(instant_ollama(*LOCAL))
    settings = (
        "llm:\n  providers:\n    ollama:\n      enabled: true\n"
        f"      base_url: {main.url}\n"
        "      additional_servers:\n"
        f"        - {{name: localhost, url: '{local.url}', priority: SECONDARY}}\n"
        "      distributed_mode: true\n      auto_discover: false\n"
    )
    with run_gateway_process(tmp_path, settings) as running:
        assert route_text(running, GREETING) == ("gemma3:1b", "localhost")
        assert route_text(running, EXPLANATION) == ("gemma3:12b", "primary")
        running.wait_for_line("gemma3:12b @ primary")
        lines = [line.partition(" INFO - ")[2] for line in running.read_log().splitlines()]
    simulators.stop(main)
    simulators.stop(local)
    assert "Discovering Ollama servers and models..." in lines
    assert [line for line in lines if re.fullmatch(rf"Server primary \({main.url}\): 15 models, \d+ms", line)]
    assert [line for line in lines if re.fullmatch(rf"Server localhost \({local.url}\): 3 models, \d+ms", line)]
    assert "Discovery complete: 2/2 servers available, 18 unique models" in lines
    assert "Distributed routing: gemma3:1b @ localhost (fallback: False)" in lines
    assert "Distributed routing: gemma3:12b @ primary (fallback: False)" in lines
    messages = [
        lines.index(line) for line in lines if line.startswith(("Discovering", "Discovery complete", "Distributed"))
    ]
    assert messages == sorted(messages)
    assert not [line for line in lines if GREETING in line or "Singleton" in line]


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("Здравствуйте, как дела?", "gemma3:1b"),
        ("Расскажи анекдот", "gemma3:1b"),
        ("Tell me a joke", "gemma3:1b"),
        ("Объясни, как работает фотосинтез", "gemma3:12b"),
        ("Explain how TCP congestion control works", "gemma3:12b"),
        ("Напиши REST API на FastAPI с авторизацией и тестами", "qwen2.5-coder:14b"),
        ("Реализуй LRU-кэш на C++ с поддержкой многопоточности", "qwen2.5-coder:14b"),
        ("Докажи, что корень из двух иррационален", "llama3.3:70b"),
        ("Prove that there are infinitely many primes", "llama3.3:70b"),
    ],
)
def test_greetings_explanations_code_and_reasoning_go_to_their_models(running: Gateway, text: str, model: str) -> None:
    assert route_text(running, text) == (model, "localhost" if model in LOCAL else "remote")


def test_many_calls_at_once_get_fitting_models_without_a_warning(simulators: Simulators, tmp_path: Path) -> None:
    with run_distributed_gateway(simulators, tmp_path, paced=True) as (fresh, _), ThreadPoolExecutor(18) as crowd:
        texts = [*EXAMPLES] * 6
        answers = list(crowd.map(lambda text: ask(fresh, text), texts))
    assert all("warning" not in answer.json() for answer in answers)
    found = [(text, parse_route(answer)) for text, answer in zip(texts, answers, strict=True)]
    assert {one.level for text, one in found if text == SYSTEM} == {"complex"}
    assert {one.model for text, one in found if text == SYSTEM} <= {"qwen2.5-coder:14b", "llama3.3:70b"}
    assert {one.model for text, one in found if text == EXPLANATION} <= {*REMOTE}


def test_two_gpu_servers_get_the_calls_that_their_models_suit(simulators: Simulators, tmp_path: Path) -> None:
    code = simulators.start(instant_ollama("qwen2.5-coder:14b", "qwen2.5-coder:7b"))
    chat = simulators.start(instant_ollama("gemma3:12b", "llama3.1:8b"))
    urls = {"code_server": (code.url, "PRIMARY"), "chat_server": (chat.url, "PRIMARY")}
    with run_gateway_process(tmp_path, render_fleet_settings(urls)) as running:
        for _ in range(3):
            assert route_text(running, SYSTEM)[1] == "code_server"
            assert (
                route_text(running, "Напиши на Python функцию, которая находит простые числа до n")[1] == "code_server"
            )
            assert route_text(running, GREETING)[1] == "chat_server"
            assert route_text(running, EXPLANATION)[1] == "chat_server"
            assert route_text(running, "Explain why the sky is blue and how sunsets become red")[1] == "chat_server"
    simulators.stop(code)
    simulators.stop(chat)


ORDINARY = ("llama3.1:8b", "gemma3:1b", "gemma3:12b", "qwen2.5-coder:14b")


def check_single_model(running: Gateway) -> None:
    """Check that LLM_MODEL answers everything and that nothing is classified."""
    for text, path in itertools.product(EXAMPLES, SURFACES):
        assert parse_route(ask(running, text, path)) == Route("", "llama3.1:8b", "only")
    answer = running.post("/api/v1/chat", {"message": GREETING}).json()
    assert answer["success"] is True
    assert {key: answer["metadata"][key] for key in ("distributed_routing", "complexity_level", "fallback")} == {
        "distributed_routing": False,
        "complexity_level": None,
        "fallback": False,
    }
    assert "warning" not in answer


def test_without_distributed_mode_the_configured_model_answers_everything(
    simulators: Simulators, tmp_path: Path
) -> None:
    only, other = simulators.start(instant_ollama(*ORDINARY)), simulators.start(instant_ollama(*LOCAL))
    urls = {"only": (only.url, "PRIMARY"), "other": (other.url, "SECONDARY")}
    with run_gateway_process(tmp_path, render_fleet_settings(urls, distributed_mode="false")) as running:
        check_single_model(running)
    simulators.stop(only)
    simulators.stop(other)


def test_with_a_single_server_the_configured_model_answers_everything(simulators: Simulators, tmp_path: Path) -> None:
    only = simulators.start(instant_ollama(*ORDINARY))
    with run_gateway_process(tmp_path, render_fleet_settings({"only": (only.url, "PRIMARY")})) as running:
        check_single_model(running)
        assert (
            parse_route(ask(running, SYSTEM, model="auto:code")).model == "qwen2.5-coder:14b"
        )  # asked for, it is chosen
    simulators.stop(only)


def count_generations(simulator: Simulator) -> int:
    """Return how many generations the simulator was asked for."""
    generating = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions")
    return sum(simulator.counters.requests.get(path, 0) for path in generating)


def test_a_fallback_server_gets_no_call_while_another_can_answer(simulators: Simulators, tmp_path: Path) -> None:
    remote, local = simulators.start(instant_ollama(*REMOTE)), simulators.start(instant_ollama(*LOCAL))
    backup = simulators.start(instant_ollama(*REMOTE, *LOCAL, "tinyllama:1.1b"))
    urls = {
        "backup_gpu": (backup.url, "FALLBACK"),
        "localhost": (local.url, "SECONDARY"),
        "remote": (remote.url, "PRIMARY"),
    }
    with run_gateway_process(tmp_path, render_fleet_settings(urls)) as running:
        for _ in range(3):
            for text, path in zip(EXAMPLES, SURFACES, strict=False):
                assert parse_route(ask(running, text, path)).server == EXAMPLES[text].server
            for model in (*REMOTE, *LOCAL):
                assert parse_route(ask(running, GREETING, model=model)).server != "backup_gpu"
        assert count_generations(backup) == 0
        assert (
            parse_route(ask(running, GREETING, model="tinyllama:1.1b")).server == "backup_gpu"
        )  # no other server has it
        simulators.stop(remote)
        assert route_text(running, EXPLANATION) == ("gemma3:12b", "backup_gpu")  # rather than a lesser model elsewhere
        assert route_text(running, GREETING) == ("gemma3:1b", "localhost")
    for simulator in (local, backup):
        simulators.stop(simulator)


def test_a_slightly_worse_model_is_preferred_to_a_fallback_server(simulators: Simulators, tmp_path: Path) -> None:
    main, backup = (
        simulators.start(instant_ollama("llama3.3:70b")),
        simulators.start(instant_ollama("qwen2.5-coder:14b")),
    )
    urls = {"main": (main.url, "PRIMARY"), "backup": (backup.url, "FALLBACK")}
    with run_gateway_process(tmp_path, render_fleet_settings(urls)) as running:
        assert route_text(running, SYSTEM) == ("llama3.3:70b", "main")
    assert count_generations(backup) == 0
    simulators.stop(main)
    simulators.stop(backup)


def test_no_text_of_a_request_is_in_the_log(running: Gateway) -> None:
    for text in EXAMPLES:
        for path in SURFACES:
            assert running.post(path, build_bodies(text)[path]).status_code == 200
    log = running.read_log()
    assert not [text for text in EXAMPLES if text in log or json.dumps(text) in log]
    assert SIM_TEXT not in log
