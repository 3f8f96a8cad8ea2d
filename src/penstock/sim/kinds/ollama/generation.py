"""`/api/chat` and `/api/generate`, validated in Ollama's order."""

import re
from typing import Any

from penstock.sim.exchange import Exchange
from penstock.sim.generated_text import GenerationRequest, Tool, compose_answer
from penstock.sim.kinds.ollama.answers import Generating, Outcome
from penstock.sim.kinds.ollama.fields import CHAT, GENERATE
from penstock.sim.kinds.ollama.go.decoder import decode_fields
from penstock.sim.kinds.ollama.go.template import find_template_error
from penstock.sim.kinds.ollama.go.text import encode_json
from penstock.sim.kinds.ollama.handler import BROKEN, CRASHED, Core, Handlers, OllamaError
from penstock.sim.kinds.ollama.library import Installed
from penstock.sim.kinds.ollama.prompt import (
    ContextWindow,
    drop_old_messages,
    fit_completion,
    measure_messages,
    measure_raw_text,
    render_messages,
)
from penstock.sim.kinds.ollama.request_options import (
    BadOptionError,
    check_options,
    integer_option,
    load_parameters,
    read_format,
)
from penstock.sim.kinds.ollama.runner_rules import check_runner_request, refuse_images, refuse_streamed_logprobs
from penstock.sim.openai.request import Prompt
from penstock.sim.speed_model import EngineCrashError, Session

_RENDERERS = re.compile(
    r"qwen3-coder|qwen3-vl-(instruct|thinking)|qwen3\.[58]|ornith|cogito|deepseek3\.1|olmo3(\.1)?|olmo3-(32b-)?think|"
    r"nemotron-3(\.5)?-nano|gemma4(-small|-large)?|functiongemma|glm-4\.7|glm-ocr|lfm2(-thinking)?|laguna"
)


class GenerationRoutes(Handlers):
    """The two generating routes."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.routes = {
            "/api/chat": {"POST": self.guard_route(self._handle_chat, generates=True)},
            "/api/generate": {"POST": self.guard_route(self._handle_generate, generates=True)},
        }

    async def _handle_chat(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, CHAT)
        run = self._begin_run(exchange, body, OllamaError(400, "model is required"), chat=True)
        empty = not body.get("messages")
        if empty and body.get("keep_alive") == 0:
            await self._unload_model(run)
            return
        check_skills(run.installed, body["model"], "chat", think=body.get("think"), tools=bool(body.get("tools")))
        await self._run_generation(run, empty=empty)

    async def _handle_generate(self, exchange: Exchange) -> None:
        body = decode_fields(exchange.request.body, GENERATE)
        unnamed = OllamaError(404, f"model '{body.get('model', '')}' not found")
        run = self._begin_run(exchange, body, unnamed, chat=False)
        empty = not body.get("prompt")
        if empty and body.get("keep_alive") == 0:
            await self._unload_model(run)
            return
        if body.get("raw") and (body.get("template") or body.get("system") or body.get("context")):
            raise OllamaError(400, "raw mode does not support template, system, or context")
        check_skills(run.installed, body["model"], "generate", think=body.get("think"), suffix=bool(body.get("suffix")))
        await self._run_generation(run, empty=empty)

    def _begin_run(self, exchange: Exchange, body: dict[str, Any], unnamed: OllamaError, *, chat: bool) -> Generating:
        if not 0 <= body.get("top_logprobs", 0) <= 20:
            raise OllamaError(400, "top_logprobs must be between 0 and 20")
        asked = body.setdefault("model", "")
        missing = OllamaError(404, f"model '{asked}' not found")
        return Generating(exchange, body, self.find_installed(asked, unnamed, missing, exchange.request.path), chat)

    async def _unload_model(self, run: Generating) -> None:
        self.core.engine.unload_model(run.installed.model)
        await self.reply_json(run.exchange, run.build_ending("unload"))

    async def _run_generation(self, run: Generating, *, empty: bool) -> None:
        body, model = run.body, run.installed.model
        check_options(run.options)
        setup = load_parameters(run.options, body.get("shift"))
        keep_alive = body.get("keep_alive")
        self.remember_model(run.installed)
        if empty:
            await self.core.engine.load_model(model, setup=setup, keep_alive=keep_alive)
            await self.reply_json(run.exchange, run.build_ending("load"))
            return
        try:
            async with self.core.engine.open_session(
                model, setup=setup, keep_alive=keep_alive, crash=run.exchange.fault
            ) as session:
                await self._generate_answer(run, session)
        except EngineCrashError:
            message = BROKEN if run.exchange.started else CRASHED
            raise OllamaError(500, message, "streamed" if run.is_streamed else "direct") from None

    async def _generate_answer(self, run: Generating, session: Session) -> None:
        window = read_window(run)
        messages, prompt = _read_prompt(run, window)
        if run.body.get("_debug_render_only"):
            await self.reply_json(run.exchange, _build_debug_info(run, messages, prompt))
            return
        try:
            ask = _build_request(run, window, prompt)
        except OllamaError as error:
            raise OllamaError(error.status, error.message, "streamed" if run.is_streamed else "direct") from None
        options = self.core.options
        answer = compose_answer(options, ask, encode_json)
        outcome = Outcome(run, session, ask, answer, can_loop=options.text is not None)
        await session.read_prompt(ask.prompt_tokens)
        if run.is_streamed:
            await outcome.send_stream()
        else:
            await self.reply_json(run.exchange, await outcome.build_complete())


def check_skills(
    installed: Installed, asked: str, use: str, *, think: Any = None, tools: bool = False, suffix: bool = False
) -> None:
    """Raise OllamaError if the model lacks a required capability."""
    model = installed.model
    if think and not model.has_capability("thinking"):
        raise OllamaError(400, f'"{asked}" does not support thinking')
    if not model.has_capability("completion"):
        raise OllamaError(400, f'"{asked}" does not support {use}')
    if tools and not model.has_capability("tools"):
        raise OllamaError(400, f"{installed.name.full} does not support tools")
    if suffix and not model.has_capability("insert"):
        raise OllamaError(400, f"{installed.name.full} does not support insert")


def read_window(run: Generating) -> ContextWindow:
    return ContextWindow.for_model(
        run.installed.model,
        integer_option(run.options, "num_ctx"),
        truncate=run.body.get("truncate", True),
        shift=run.body.get("shift", True),
        num_keep=integer_option(run.options, "num_keep"),
    )


def _read_prompt(run: Generating, window: ContextWindow) -> tuple[list[dict[str, Any]], Prompt]:
    """Return the conversation that is rendered (none in raw mode), and the measured prompt. Raises OllamaError."""
    body, installed = run.body, run.installed
    if not run.chat and body.get("raw"):
        return [], measure_raw_text(body["prompt"], len(body.get("images", ())))
    if not run.chat and (problem := find_template_error(body.get("template", ""))):
        raise OllamaError(500, problem)
    if installed.renderer and not _RENDERERS.fullmatch(installed.renderer):
        raise OllamaError(500, f'unknown renderer "{installed.renderer}"')
    messages = _list_messages(run)
    messages = drop_old_messages(messages, window)
    prompt = measure_messages(messages)
    if run.chat:
        return messages, prompt
    extra = len(body.get("context") or ())
    return messages, Prompt(prompt.tokens + extra, body["prompt"], None, len(body.get("images", ())))


def _list_messages(run: Generating) -> list[dict[str, Any]]:
    """Return the conversation with what the Modelfile adds to it."""
    body, installed = run.body, run.installed
    if run.chat:
        asked = body["messages"]
        system = installed.system if asked[0].get("role") != "system" else ""
        messages = [*installed.messages, *asked]
    else:
        system = body.get("system") or installed.system
        user = {"role": "user", "content": body["prompt"] + body.get("suffix", ""), "images": body.get("images", [])}
        messages = [*(installed.messages if body.get("context") is None else ()), user]
    return [{"role": "system", "content": system}, *messages] if system else messages


def _build_debug_info(run: Generating, messages: list[dict[str, Any]], prompt: Prompt) -> dict[str, Any]:
    rendered = render_messages(messages, run.body.get("tools", [])) if messages else prompt.message
    return run.build_debug_info(rendered, prompt.images)


def _build_request(run: Generating, window: ContextWindow, prompt: Prompt) -> GenerationRequest:
    """Build the request to the model. Raises OllamaError for one that Ollama's runner refuses."""
    body, model, options = run.body, run.installed.model, run.options
    tools = body.get("tools", [])
    if not run.is_native:
        prompt = fit_completion(prompt, window)
    try:
        shape = read_format(body.get("format"))
    except BadOptionError as error:
        raise OllamaError(500, str(error), "streamed") from None
    if prompt.images and not model.has_capability("vision"):
        raise refuse_images(native=run.is_native)
    if run.is_native and tools and body.get("logprobs") and run.is_streamed:
        raise refuse_streamed_logprobs()
    check_runner_request(prompt, window, options, shape)
    functions = [tool.get("function", {}) for tool in tools if shape is None]
    think = body.get("think")
    return GenerationRequest(
        model=model.name,
        message=prompt.message,
        prompt_tokens=prompt.tokens,
        tool_result=prompt.tool_result,
        tools=tuple(Tool(function.get("name", ""), function.get("parameters") or {}) for function in functions),
        schema=shape,
        thinking=model.has_capability("thinking") if think is None else bool(think),
        max_tokens=_limit_tokens(options, window, prompt),
        stop=tuple(options.get("stop") or ()),
        answer_start=prompt.answer_start,
        raw=bool(body.get("raw")) and not run.chat,
    )


def _limit_tokens(options: dict[str, Any], window: ContextWindow, prompt: Prompt) -> int:
    """Return the limit of tokens: 0 and less mean none, and there is always one of ten windows."""
    wanted = integer_option(options, "num_predict")
    limits = [10 * window.tokens]
    if wanted is not None and wanted > 0:
        limits.append(wanted)
    if not window.shift:
        limits.append(max(1, window.runner_tokens - prompt.tokens))
    return min(limits)
