"""Explanations of routing: `POST /api/route`, `GET /api/decisions`, `penstock route`, `penstock classify`."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.request import Call
from penstock.sim import Simulator
from tests.acceptance.distributed import (
    EXAMPLES,
    EXPLANATION,
    GREETING,
    LOCAL,
    REMOTE,
    SURFACES,
    SYSTEM,
    WARNING,
    Fleet,
    ask,
    build_bodies,
    build_messages,
    instant_ollama,
    run_distributed_gateway,
    run_fleet,
)
from tests.support.gateway import run_gateway as in_process
from tests.support.gateway import server_settings
from tests.support.gateway_process import Gateway, build_environment, run_gateway_process
from tests.support.raw_client import post
from tests.support.real_engines import free_port
from tests.support.simulators import Simulators

KEYS = {
    "complexity_level", "task_type", "scores", "model", "server", "reason", "warning", "fallback", "candidates",
}  # fmt: skip
SECRET = "Зелёный бегемот по имени Аркадий спит в шкафу"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def pair(simulators: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Fleet]]:
    """A gateway in front of the two servers, with the models of the examples in memory."""
    with run_distributed_gateway(simulators, tmp_path_factory.mktemp("explained")) as both:
        for text in EXAMPLES:
            assert ask(both[0], text).status_code == 200
        yield both


@pytest.fixture(scope="module")
def running(pair: tuple[Gateway, Fleet]) -> Gateway:
    return pair[0]


@pytest.fixture
def penstock(tmp_path: Path) -> Run:
    """Run one command to its end in an empty folder."""

    def run(*words: str, text: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "penstock", *words],
            cwd=tmp_path,
            env=build_environment(tmp_path, variables),
            input=text,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


def explain(running: Gateway, body: dict[str, Any], **headers: str) -> Any:
    answer = running.post("/api/route", body, **headers)
    assert answer.status_code == 200, answer.text
    explanation = answer.json()
    assert set(explanation) >= KEYS
    return explanation


def count_requests(simulator: Simulator) -> int:
    """Return the number of requests, without the gateway's own probes."""
    probes = ("/api/tags", "/api/ps", "/api/version", "/api/show", "/")
    return sum(number for path, number in simulator.counters.requests.items() if path not in probes)


@pytest.mark.parametrize("text", EXAMPLES, ids=["a greeting", "an explanation", "a system"])
@pytest.mark.parametrize(
    "build_body",
    [
        lambda text: {"message": text},
        lambda text: {"text": text, "model": "auto"},
        lambda text: {"messages": build_messages(text)},
        lambda text: {"model": "auto", "messages": build_messages(text), "stream": True, "max_tokens": 5},
        lambda text: {"message": text, "history": [], "context": "Отвечай кратко."},
    ],
)
def test_the_explanation_is_the_decision_that_would_be_made(
    running: Gateway, text: str, build_body: Callable[[str], dict[str, Any]]
) -> None:
    explanation, wanted = explain(running, build_body(text)), EXAMPLES[text]
    assert (explanation["complexity_level"], explanation["task_type"]) == (wanted.level, wanted.task_type)
    assert (explanation["model"], explanation["server"], explanation["warning"], explanation["fallback"]) == (
        wanted.model,
        wanted.server,
        None,
        False,
    )
    assert set(explanation["scores"]) == {"trivial", "simple", "moderate", "complex"}
    assert sum(explanation["scores"].values()) == pytest.approx(1, abs=0.001)
    first, *others = explanation["candidates"]
    assert (first["model"], first["server"]) == (wanted.model, wanted.server)
    ranks = [(each["tier"], each["cost_seconds"]) for each in explanation["candidates"]]
    assert ranks == sorted(ranks)
    assert first["score"] == max(each["score"] for each in explanation["candidates"])
    assert {each["model"] for each in others} | {wanted.model} == {*REMOTE, *LOCAL}  # every one is accounted for


def test_every_candidate_has_reasons_that_add_up_to_its_cost(running: Gateway) -> None:
    for text in EXAMPLES:
        for each in explain(running, {"message": text})["candidates"]:
            assert {reason["signal"] for reason in each["reasons"]} >= {"fit", "priority", "queue", "residency"}
            assert all(reason["text"] for reason in each["reasons"])
            total = sum(reason["cost_seconds"] for reason in each["reasons"])
            assert total == pytest.approx(each["cost_seconds"], abs=0.01)
            assert 0 <= each["expected_first_token_seconds"] <= each["cost_seconds"] + 0.01
            assert each["standing"] == {0: "fits", 2: "lesser"}[each["tier"]]


def test_a_model_that_is_too_big_is_explained_as_such(running: Gateway) -> None:
    candidates = {each["model"]: each for each in explain(running, {"message": GREETING})["candidates"]}
    fit = {
        name: next(reason["cost_seconds"] for reason in each["reasons"] if reason["signal"] == "fit")
        for name, each in candidates.items()
    }
    assert fit["gemma3:12b"] > fit["gemma3:1b"]
    assert candidates["gemma3:12b"]["cost_seconds"] > candidates["gemma3:1b"]["cost_seconds"]


def test_for_a_named_model_only_the_server_is_selected(running: Gateway) -> None:
    explanation = explain(running, {"message": SYSTEM, "model": "gemma3:1b"})
    assert (explanation["model"], explanation["server"], explanation["requested_model"]) == (
        "gemma3:1b",
        "localhost",
        "gemma3:1b",
    )
    assert (explanation["complexity_level"], explanation["task_type"], explanation["scores"]) == (None, None, None)
    assert [each["model"] for each in explanation["candidates"]] == ["gemma3:1b"]


def test_an_explanation_sends_nothing_to_a_server_and_changes_nothing(pair: tuple[Gateway, Fleet]) -> None:
    running, servers = pair
    before = count_requests(servers.remote), count_requests(servers.local)
    kept = running.get("/api/decisions").json()["total"]
    answers = [explain(running, {"message": text}) for text in EXAMPLES for _ in range(3)]
    assert (count_requests(servers.remote), count_requests(servers.local)) == before
    assert running.get("/api/decisions").json()["total"] == kept
    assert answers[0] == answers[1] == answers[2]


def test_the_request_itself_gets_the_explained_decision(running: Gateway) -> None:
    texts = ["Hi there!", "Переведи на английский: кошка", "Prove that the square root of 2 is irrational", SECRET]
    for text in texts:
        explanation, answer = explain(running, {"message": text}), ask(running, text)
        assert (
            explanation["model"],
            explanation["server"],
            explanation["complexity_level"],
            explanation["reason"],
        ) == tuple(answer.headers[f"x-penstock-{name}"] for name in ("model", "server", "complexity", "reason"))


def test_without_the_big_server_the_explanation_has_the_warning(simulators: Simulators, tmp_path: Path) -> None:
    with run_fleet(simulators) as servers, run_gateway_process(tmp_path, servers.settings) as running:
        simulators.stop(servers.remote)
        assert ask(running, SYSTEM).json()["warning"] == WARNING
        explanation = explain(running, {"message": SYSTEM})
        assert (explanation["model"], explanation["server"], explanation["warning"], explanation["fallback"]) == (
            "qwen2.5:1.5b",
            "localhost",
            WARNING,
            True,
        )
        assert explanation["candidates"][-1]["standing"].endswith("away")


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({}, 400, "invalid_request", "`message` is missing"),
        ({"text": " "}, 400, "invalid_request", "`text`"),
        ({"text": 5}, 400, "invalid_request", "`text`"),
        ({"message": ""}, 400, "invalid_request", "`message` must not be empty"),
        ({"text": "a", "message": "b"}, 400, "invalid_request", "not both"),
        ({"text": "a", "messages": []}, 400, "invalid_request", "not both"),
        ({"messages": []}, 400, "invalid_request", "`messages`"),
        ({"mesage": "x"}, 400, "invalid_request", "Did you mean `message`?"),
        ([], 400, "invalid_request", "object"),
        ({"text": "a", "model": "gemma3:11b"}, 404, "model_not_found", "gemma3:12b"),
        ({"text": "a", "model": "auto:quick"}, 400, "unsupported", "auto:fast"),
    ],
)
def test_an_invalid_question_is_rejected_with_the_reason(
    running: Gateway, body: Any, status: int, code: str, message: str
) -> None:
    answer = running.post("/api/route", body)
    error = answer.json()
    assert (answer.status_code, error["success"], error["code"]) == (status, False, code)
    assert message in error["error"]


def test_a_question_may_set_max_wait(running: Gateway) -> None:
    assert explain(running, {"message": SYSTEM}, **{"x-penstock-max-wait": "3600"})["server"] == "remote"
    refused = running.post("/api/route", {"message": SYSTEM}, **{"x-penstock-max-wait": "0"})
    assert (refused.status_code, refused.json()["code"]) == (429, "wait_too_long")
    wrong = running.post("/api/route", {"message": SYSTEM}, **{"x-penstock-max-wait": "soon"})
    assert (wrong.status_code, wrong.json()["param"]) == (400, "x-penstock-max-wait")


def test_the_last_decisions_are_listed_newest_first(running: Gateway) -> None:
    for text in EXAMPLES:
        for path in SURFACES:
            assert (
                running.post(path, build_bodies(text)[path], **{"x-request-id": f"{path}-{len(text)}"}).status_code
                == 200
            )
    body = running.get(f"/api/decisions?limit={len(SURFACES)}").json()
    assert body["total"] >= len(SURFACES) * len(EXAMPLES)
    assert [one["request_id"] for one in body["decisions"]] == [f"{path}-{len(SYSTEM)}" for path in reversed(SURFACES)]
    for one in body["decisions"]:
        wanted = EXAMPLES[SYSTEM]
        assert (one["complexity_level"], one["task_type"], one["model"], one["server"]) == (
            wanted.level,
            wanted.task_type,
            wanted.model,
            wanted.server,
        )
        assert (one["outcome"], one["attempts"], one["fallback"], one["warning"]) == ("ok", 1, False, None)
        assert one["requested_model"] in (None, "auto")
        made = datetime.fromisoformat(one["time"]).replace(tzinfo=UTC)
        assert timedelta(0) <= datetime.now(UTC) - made < timedelta(minutes=1)
        assert one["candidates"][0]["model"] == wanted.model
        ranks = [(each["tier"], each["cost_seconds"]) for each in one["candidates"]]
        assert ranks == sorted(ranks)
    assert {one["wire"] for one in body["decisions"]} >= {"service.routed", "openai.chat", "ollama.chat"}


def test_decisions_contain_no_text_of_the_request(running: Gateway) -> None:
    for path in SURFACES:
        assert ask(running, SECRET, path).status_code == 200
        assert ask(running, SECRET, path, model="phi3:3b").status_code == 200
    text = running.get("/api/decisions?limit=1000").text
    assert not [word for word in SECRET.split() if len(word) > 2 and word in text]


async def test_a_decision_record_does_not_keep_the_request() -> None:
    async with (
        Simulator(instant_ollama("gemma3:1b")) as only,
        in_process(server_settings("only", only.url, "ollama"), probe=True) as here,
    ):
        for path in ("/api/v1/chat", "/v1/chat/completions", "/api/chat"):
            body = build_bodies(SECRET)[path] | {"model": "gemma3:1b"}
            assert (await here.send_request(post(path, body))).status == 200
        records = here.gateway.decision_log.records
        assert len(records) == 3
        kept = [value for record in records for value in record]
        assert not [value for value in kept if isinstance(value, Call) or SECRET in str(value)]


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1"])
def test_a_wrong_number_of_decisions_is_refused(running: Gateway, limit: str) -> None:
    answer = running.get(f"/api/decisions?limit={limit}")
    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (400, "invalid_request", "limit")


def test_failed_calls_are_listed_too(simulators: Simulators, tmp_path: Path) -> None:
    with run_fleet(simulators) as servers, run_gateway_process(tmp_path, servers.settings) as running:
        simulators.stop(servers.remote)
        assert ask(running, SYSTEM).status_code == 200
        [made] = running.get("/api/decisions").json()["decisions"]
        assert (made["server"], made["warning"], made["fallback"], made["outcome"]) == (
            "localhost",
            WARNING,
            True,
            "ok",
        )
        assert made["attempts"] > 1
        assert ask(running, SYSTEM, model="gemma3:12b").status_code >= 500
        failed = running.get("/api/decisions?limit=1").json()["decisions"][0]
        assert failed["outcome"] in ("upstream_error", "no_server")


def test_the_document_of_the_api_has_both_routes(running: Gateway) -> None:
    paths = running.get("/openapi.json").json()["paths"]
    assert "requestBody" in paths["/api/route"]["post"]
    assert [each["name"] for each in paths["/api/decisions"]["get"]["parameters"]] == ["limit"]
    assert all(
        paths[path][method]["description"] for path, method in (("/api/route", "post"), ("/api/decisions", "get"))
    )


def test_penstock_route_prints_the_choice_and_every_candidate(running: Gateway, penstock: Run) -> None:
    result = penstock("route", SYSTEM, "--url", running.url)
    assert (result.returncode, result.stderr) == (0, "")
    head, _, table = result.stdout.partition("\n\n")
    fields = dict(line.split(maxsplit=1) for line in head.splitlines())
    assert (fields["Level"], fields["Task"], fields["Choice"]) == ("complex", "code", "qwen2.5-coder:14b @ remote")
    rows = [line for line in table.splitlines() if line[:2] in ("* ", "  ") and line[2] != " "]
    assert rows[0].split() == ["candidate", "server", "score", "seconds", "standing"]
    assert next(row.split()[:3] for row in rows if row.startswith("*"))[1:] == ["qwen2.5-coder:14b", "remote"]
    assert sum(row.startswith("*") for row in rows) == 1
    assert {row[2:].split()[0] for row in rows[1:]} == {*REMOTE, *LOCAL}
    assert len({row.index(row[2:].split()[1], 3) for row in rows}) == 1  # the columns are aligned
    assert "fits the task to" in table


def test_penstock_route_finds_the_gateway_by_the_settings(running: Gateway, penstock: Run) -> None:
    port = running.url.rpartition(":")[2]
    result = penstock("route", "-", "--json", text=EXPLANATION, VLLM_OLLAMA_PORT=port)
    assert (result.returncode, result.stderr) == (0, "")
    explanation = json.loads(result.stdout)
    assert (explanation["model"], explanation["server"]) == ("gemma3:12b", "remote")
    named = penstock("route", EXPLANATION, "--model", "phi3:3b", VLLM_OLLAMA_PORT=port)
    assert "phi3:3b @ localhost" in named.stdout
    assert "Level" not in named.stdout


def one_line(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.stdout == ""
    assert result.stderr.startswith("penstock")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_penstock_route_says_how_to_start_a_gateway_that_does_not_run(penstock: Run) -> None:
    result = penstock("route", GREETING, VLLM_OLLAMA_PORT=str(free_port()))
    assert result.returncode == 1
    assert "Start one with `penstock serve`" in one_line(result)


def test_penstock_route_prints_the_gateways_own_message(running: Gateway, penstock: Run) -> None:
    result = penstock("route", GREETING, "--model", "gemma3:11b", "--url", running.url)
    assert result.returncode == 1
    assert "gemma3:12b" in one_line(result)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["route"], "Missing argument 'TEXT'"),
        (["route", " "], "The text is empty"),
        (["route", "-"], "The text is empty"),
        (["route", "hi", "--url", "ftp://x"], "is not the address of a gateway"),
        (["route", "hi", "--url", "http://x:port"], "is not the address of a gateway"),
        (["classify", "extra"], "extra"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(penstock: Run, words: list[str], message: str) -> None:
    result = penstock(*words)
    assert result.returncode == 2
    assert message in one_line(result)


def test_penstock_route_reports_a_server_that_is_not_a_gateway(penstock: Run) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        result = penstock("route", "hi", "--url", f"http://127.0.0.1:{other.server_port}")
        other.shutdown()
        thread.join()
    assert result.returncode == 1
    assert "is not a gateway" in one_line(result)


@pytest.mark.parametrize("command", ["route", "classify"])
def test_the_commands_have_help_with_examples(penstock: Run, command: str) -> None:
    result = penstock(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Examples:" in result.stdout
    assert f"penstock {command}" in result.stdout


def test_penstock_classify_classifies_line_by_line_in_order(penstock: Run) -> None:
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in EXAMPLES)
    result = penstock("classify", text=lines)
    assert (result.returncode, result.stderr) == (0, "")
    results = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["level"], one["task_type"]) for one in results] == [
        (one.level, one.task_type) for one in EXAMPLES.values()
    ]
    wrong = penstock("classify", text="привет\n")
    assert wrong.returncode == 1
    assert "Line 1" in one_line(wrong)
