"""Victoria: an agent that is given a goal, takes steps and answers, at once, later, or as server-sent events."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any

from penstock.sim.exchange import Exchange, Headers, Style, http_date
from penstock.sim.generated_text import Answer, Ask, tokens_of
from penstock.sim.kind import Kind, Route
from penstock.sim.openai.request import BrokenJsonError, parse
from penstock.sim.options import SimOptions
from penstock.sim.speed_model import Engine, EngineCrashError, QueueFullError

# A goal with one of these in it is not clear enough.
CLARIFY = ("[clarify]", "[уточни]")
_STEPS = ("Reading the goal", "Choosing an expert", "Writing the answer")
_STEPS_RUSSIAN = ("Читаю цель", "Выбираю эксперта", "Пишу ответ")
_STEP_TOKENS = 4
_KEPT_TASKS = 100


def _headers(_status: int) -> Headers:
    return (("date", http_date()), ("server", "uvicorn"))


@dataclass(slots=True)
class _Task:
    """An asynchronous run."""

    status: str = "queued"
    stage: str = "queued"
    output: str | None = None
    error: str | None = None


class Victoria(Kind):
    """An agent of one model; `options.progress` off makes it an older version, without `/stream`."""

    name = "victoria"
    default_models = ("victoria",)
    style = Style(headers=_headers, lower=True, idle_seconds=5.0)
    one_model = True

    def __init__(self, engine: Engine, options: SimOptions) -> None:
        super().__init__(engine, options)
        self._began = time.time()
        self._tasks: dict[str, _Task] = {}
        self.routes = {
            "/": {"GET": Route(self._health)},
            "/health": {"GET": Route(self._health)},
            "/status": {"GET": Route(self._status)},
            "/run": {"POST": Route(self._run, generates=True)},
            "/run/status/*": {"GET": Route(self._run_status)},
            "/plan": {"POST": Route(self._plan, generates=True)},
        }
        if options.progress:
            self.routes["/stream"] = {"POST": Route(self._stream, generates=True)}

    async def gate(self, exchange: Exchange) -> bool:
        given = exchange.request.headers.get("x-correlation-id")
        exchange.headers.append(("x-correlation-id", given or str(uuid.uuid4())))
        return False

    async def unrouted(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        if allowed:
            exchange.headers.append(("allow", ", ".join(allowed)))
            await self.json(exchange, {"detail": "Method Not Allowed"}, 405)
        else:
            await self.json(exchange, {"detail": "Not Found"}, 404)

    def failure(self, status: int, message: str) -> bytes:
        return self.encode({"detail": message})

    async def _health(self, exchange: Exchange) -> None:
        await self.json(exchange, {"status": "ok", "agent": "Victoria"})

    async def _status(self, exchange: Exchange) -> None:
        counters = self.engine.counters
        await self.json(
            exchange,
            {
                "agent": "Victoria",
                "status": "busy" if self.engine.running else "idle",
                "uptime": round(time.time() - self._began, 1),
                "tasks_completed": counters.completed,
                "tasks_running": self.engine.running,
            },
        )

    async def _goal(self, exchange: Exchange) -> dict[str, Any] | None:
        """The request, or None when it has been answered already."""
        try:
            body = parse(exchange.request.body)
        except BrokenJsonError as broken:
            flaw = {"type": "json_invalid", "loc": ["body", broken.position], "msg": "JSON decode error", "input": {}}
            await self.json(exchange, {"detail": [flaw]}, 422)
            return None
        if not isinstance(body, dict) or not isinstance(body.get("goal"), str):
            flaw = {"type": "missing", "loc": ["body", "goal"], "msg": "Field required", "input": body}
            await self.json(exchange, {"detail": [flaw]}, 422)
            return None
        return body

    def _answered(self, goal: str) -> Answer:
        return self.compose(Ask("Victoria", goal, len(tokens_of(goal))))

    async def _run(self, exchange: Exchange) -> None:
        body = await self._goal(exchange)
        if body is None:
            return
        goal = body["goal"]
        if any(marker in goal.lower() for marker in CLARIFY):
            await self.json(exchange, _question(goal))
            return
        if exchange.request.query.get("async_mode", "").lower() in {"true", "1"}:
            await self._later(exchange, goal)
            return
        try:
            output = await self._work(goal, _Task(), exchange.fault)
        except EngineCrashError:
            await self.json(exchange, {"status": "error", "output": "", "error": "the agent's model failed"}, 500)
        except QueueFullError:
            await self.fail(exchange, 503, "Victoria is busy")
        else:
            correlation = dict(exchange.headers)["x-correlation-id"]
            await self.json(
                exchange, {"status": "success", "output": output, "knowledge": {}, "correlation_id": correlation}
            )

    async def _work(self, goal: str, task: _Task, fault: str | None) -> str:
        """Take the steps, say the answer."""
        answer = self._answered(goal)
        async with self.engine.session(self.models[0], crash=fault) as session:
            task.status = "running"
            await session.prefill(len(tokens_of(goal)))
            for stage in _steps(goal):
                task.stage = stage
                for _ in range(_STEP_TOKENS):
                    await session.token()
            for _ in answer.tokens:
                await session.token()
        return answer.text

    async def _later(self, exchange: Exchange, goal: str) -> None:
        name, task = str(uuid.uuid4()), _Task()
        while len(self._tasks) >= _KEPT_TASKS:
            self._tasks.pop(next(iter(self._tasks)))
        self._tasks[name] = task
        work = asyncio.get_running_loop().create_task(self._background(goal, task, exchange.fault))
        self.background.add(work)
        work.add_done_callback(self.background.discard)
        where = f"/run/status/{name}"
        await self.json(exchange, {"task_id": name, "status": "queued", "status_url": where}, 202)

    async def _background(self, goal: str, task: _Task, fault: str | None) -> None:
        try:
            task.output = await self._work(goal, task, fault)
            task.status = task.stage = "completed"
        except (EngineCrashError, QueueFullError):
            task.status, task.error = "failed", "the agent's model failed"

    async def _run_status(self, exchange: Exchange) -> None:
        name = exchange.request.path.rpartition("/")[2]
        task = self._tasks.get(name)
        if task is None:
            await self.fail(exchange, 404, "Task not found")
            return
        told = {"status": task.status, "stage": task.stage, "output": task.output, "error": task.error}
        await self.json(exchange, {"task_id": name, **told})

    async def _plan(self, exchange: Exchange) -> None:
        body = await self._goal(exchange)
        if body is None:
            return
        prefix = self.options.prefix
        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(_steps(body["goal"]), 1))
        try:
            async with self.engine.session(self.models[0], crash=exchange.fault) as session:
                await session.prefill(len(tokens_of(body["goal"])))
                for _ in tokens_of(steps):
                    await session.token()
        except EngineCrashError:
            await self.fail(exchange, 500, "the agent's model failed")
            return
        await self.json(exchange, {"plan": prefix + steps, "status": "success"})

    async def _stream(self, exchange: Exchange) -> None:
        body = await self._goal(exchange)
        if body is None:
            return
        goal = body["goal"]
        await exchange.start(200, "text/event-stream; charset=utf-8", (("cache-control", "no-cache"),))
        await self._event(exchange, "start", goal=goal)
        if any(marker in goal.lower() for marker in CLARIFY):
            await self._event(exchange, "end", **_question(goal))
            await exchange.finish()
            return
        answer = self._answered(goal)
        try:
            async with self.engine.session(self.models[0], crash=exchange.fault) as session:
                await session.prefill(len(tokens_of(goal)))
                steps = _steps(goal)
                for number, step in enumerate(steps, 1):
                    await self._event(exchange, "step", step=number, title=step)
                    for _ in range(_STEP_TOKENS):
                        await session.token()
                    await self._event(exchange, "progress", progress=round(number / (len(steps) + 1), 2))
                for piece in answer.tokens:
                    await session.token()
                    await self._event(exchange, "chunk", content=piece)
        except (EngineCrashError, QueueFullError):
            await self._event(exchange, "error", error="the agent's model failed")
        else:
            await self._event(exchange, "end", status="success")
        await exchange.finish()

    async def _event(self, exchange: Exchange, name: str, **data: Any) -> None:
        await exchange.send(b"event: %b\ndata: %b\n\n" % (name.encode(), self.encode({"type": name, **data})))


def _steps(goal: str) -> tuple[str, ...]:
    return _STEPS_RUSSIAN if any("а" <= letter <= "я" for letter in goal.lower()) else _STEPS


def _question(goal: str) -> dict[str, Any]:
    russian = _steps(goal) is _STEPS_RUSSIAN
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
