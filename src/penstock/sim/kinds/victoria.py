"""Victoria: an agent that takes a goal, runs steps and answers, at once, asynchronously or as events."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any

from penstock.sim.exchange import Exchange, Headers, Style, http_date
from penstock.sim.generated_text import Answer, GenerationRequest, tokens_of
from penstock.sim.kind import Kind, Route
from penstock.sim.openai.request import BrokenJsonError, parse_json
from penstock.sim.options import SimOptions
from penstock.sim.speed_model import EngineCrashError, QueueFullError, SpeedModel

# A goal that contains one of these is unclear, so the agent asks back.
CLARIFY = ("[clarify]", "[уточни]")
_STEPS = ("Reading the goal", "Choosing an expert", "Writing the answer")
_STEPS_RUSSIAN = ("Читаю цель", "Выбираю эксперта", "Пишу ответ")
_STEP_TOKENS = 4
_KEPT_TASKS = 100


def _build_headers(_status: int) -> Headers:
    return (("date", http_date()), ("server", "uvicorn"))


@dataclass(slots=True)
class _Task:
    """An asynchronous run."""

    status: str = "queued"
    stage: str = "queued"
    output: str | None = None
    error: str | None = None


class Victoria(Kind):
    """An agent with one model; without `options.progress` it is an older version, which has no `/stream`."""

    name = "victoria"
    default_models = ("victoria",)
    style = Style(headers=_build_headers, lower=True, idle_seconds=5.0)
    one_model = True

    def __init__(self, engine: SpeedModel, options: SimOptions) -> None:
        super().__init__(engine, options)
        self._began = time.time()
        self._tasks: dict[str, _Task] = {}
        self.routes = {
            "/": {"GET": Route(self._handle_health)},
            "/health": {"GET": Route(self._handle_health)},
            "/status": {"GET": Route(self._handle_status)},
            "/run": {"POST": Route(self._handle_run, generates=True)},
            "/run/status/*": {"GET": Route(self._run_status)},
            "/plan": {"POST": Route(self._handle_plan, generates=True)},
        }
        if options.progress:
            self.routes["/stream"] = {"POST": Route(self._handle_stream, generates=True)}

    async def intercept(self, exchange: Exchange) -> bool:
        given = exchange.request.headers.get("x-correlation-id")
        exchange.headers.append(("x-correlation-id", given or str(uuid.uuid4())))
        return False

    async def answer_unknown_route(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        if allowed:
            exchange.headers.append(("allow", ", ".join(allowed)))
            await self.reply_json(exchange, {"detail": "Method Not Allowed"}, 405)
        else:
            await self.reply_json(exchange, {"detail": "Not Found"}, 404)

    def build_error_body(self, status: int, message: str) -> bytes:
        return self.encode_json({"detail": message})

    async def _handle_health(self, exchange: Exchange) -> None:
        await self.reply_json(exchange, {"status": "ok", "agent": "Victoria"})

    async def _handle_status(self, exchange: Exchange) -> None:
        counters = self.engine.counters
        await self.reply_json(
            exchange,
            {
                "agent": "Victoria",
                "status": "busy" if self.engine.running else "idle",
                "uptime": round(time.time() - self._began, 1),
                "tasks_completed": counters.completed,
                "tasks_running": self.engine.running,
            },
        )

    async def _read_goal(self, exchange: Exchange) -> dict[str, Any] | None:
        """Read the request; return None if it has been answered already."""
        try:
            body = parse_json(exchange.request.body)
        except BrokenJsonError as broken:
            flaw = {"type": "json_invalid", "loc": ["body", broken.position], "msg": "JSON decode error", "input": {}}
            await self.reply_json(exchange, {"detail": [flaw]}, 422)
            return None
        if not isinstance(body, dict) or not isinstance(body.get("goal"), str):
            flaw = {"type": "missing", "loc": ["body", "goal"], "msg": "Field required", "input": body}
            await self.reply_json(exchange, {"detail": [flaw]}, 422)
            return None
        return body

    def _compose_reply(self, goal: str) -> Answer:
        return self.compose_answer(GenerationRequest("Victoria", goal, len(tokens_of(goal))))

    async def _handle_run(self, exchange: Exchange) -> None:
        body = await self._read_goal(exchange)
        if body is None:
            return
        goal = body["goal"]
        if any(marker in goal.lower() for marker in CLARIFY):
            await self.reply_json(exchange, _build_question(goal))
            return
        if exchange.request.query.get("async_mode", "").lower() in {"true", "1"}:
            await self._accept_async_run(exchange, goal)
            return
        try:
            output = await self._run_steps(goal, _Task(), exchange.fault)
        except EngineCrashError:
            await self.reply_json(exchange, {"status": "error", "output": "", "error": "the agent's model failed"}, 500)
        except QueueFullError:
            await self.reply_error(exchange, 503, "Victoria is busy")
        else:
            correlation = dict(exchange.headers)["x-correlation-id"]
            await self.reply_json(
                exchange, {"status": "success", "output": output, "knowledge": {}, "correlation_id": correlation}
            )

    async def _run_steps(self, goal: str, task: _Task, fault: str | None) -> str:
        """Run the steps and return the answer."""
        answer = self._compose_reply(goal)
        async with self.engine.open_session(self.models[0], crash=fault) as session:
            task.status = "running"
            await session.read_prompt(len(tokens_of(goal)))
            for stage in _list_steps(goal):
                task.stage = stage
                for _ in range(_STEP_TOKENS):
                    await session.generate_token()
            for _ in answer.tokens:
                await session.generate_token()
        return answer.text

    async def _accept_async_run(self, exchange: Exchange, goal: str) -> None:
        name, task = str(uuid.uuid4()), _Task()
        while len(self._tasks) >= _KEPT_TASKS:
            self._tasks.pop(next(iter(self._tasks)))
        self._tasks[name] = task
        work = asyncio.get_running_loop().create_task(self._run_in_background(goal, task, exchange.fault))
        self.background.add(work)
        work.add_done_callback(self.background.discard)
        where = f"/run/status/{name}"
        await self.reply_json(exchange, {"task_id": name, "status": "queued", "status_url": where}, 202)

    async def _run_in_background(self, goal: str, task: _Task, fault: str | None) -> None:
        try:
            task.output = await self._run_steps(goal, task, fault)
            task.status = task.stage = "completed"
        except (EngineCrashError, QueueFullError):
            task.status, task.error = "failed", "the agent's model failed"

    async def _run_status(self, exchange: Exchange) -> None:
        name = exchange.request.path.rpartition("/")[2]
        task = self._tasks.get(name)
        if task is None:
            await self.reply_error(exchange, 404, "Task not found")
            return
        state = {"status": task.status, "stage": task.stage, "output": task.output, "error": task.error}
        await self.reply_json(exchange, {"task_id": name, **state})

    async def _handle_plan(self, exchange: Exchange) -> None:
        body = await self._read_goal(exchange)
        if body is None:
            return
        prefix = self.options.prefix
        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(_list_steps(body["goal"]), 1))
        try:
            async with self.engine.open_session(self.models[0], crash=exchange.fault) as session:
                await session.read_prompt(len(tokens_of(body["goal"])))
                for _ in tokens_of(steps):
                    await session.generate_token()
        except EngineCrashError:
            await self.reply_error(exchange, 500, "the agent's model failed")
            return
        await self.reply_json(exchange, {"plan": prefix + steps, "status": "success"})

    async def _handle_stream(self, exchange: Exchange) -> None:
        body = await self._read_goal(exchange)
        if body is None:
            return
        goal = body["goal"]
        await exchange.start(200, "text/event-stream; charset=utf-8", (("cache-control", "no-cache"),))
        await self._send_event(exchange, "start", goal=goal)
        if any(marker in goal.lower() for marker in CLARIFY):
            await self._send_event(exchange, "end", **_build_question(goal))
            await exchange.finish()
            return
        answer = self._compose_reply(goal)
        try:
            async with self.engine.open_session(self.models[0], crash=exchange.fault) as session:
                await session.read_prompt(len(tokens_of(goal)))
                steps = _list_steps(goal)
                for number, step in enumerate(steps, 1):
                    await self._send_event(exchange, "step", step=number, title=step)
                    for _ in range(_STEP_TOKENS):
                        await session.generate_token()
                    await self._send_event(exchange, "progress", progress=round(number / (len(steps) + 1), 2))
                for piece in answer.tokens:
                    await session.generate_token()
                    await self._send_event(exchange, "chunk", content=piece)
        except (EngineCrashError, QueueFullError):
            await self._send_event(exchange, "error", error="the agent's model failed")
        else:
            await self._send_event(exchange, "end", status="success")
        await exchange.finish()

    async def _send_event(self, exchange: Exchange, name: str, **data: Any) -> None:
        await exchange.send(b"event: %b\ndata: %b\n\n" % (name.encode(), self.encode_json({"type": name, **data})))


def _list_steps(goal: str) -> tuple[str, ...]:
    return _STEPS_RUSSIAN if any("а" <= letter <= "я" for letter in goal.lower()) else _STEPS


def _build_question(goal: str) -> dict[str, Any]:
    russian = _list_steps(goal) is _STEPS_RUSSIAN
    plain = goal
    for marker in CLARIFY:
        plain = plain.replace(marker, "").strip()
    return {
        "status": "needs_clarification",
        "clarification_questions": [
            "Что именно должно получиться?" if russian else "What exactly should come out of it?"
        ],
        "original_goal": goal,
        "suggested_restatement": plain,
    }


KIND = Victoria
