"""The rules of ARCHITECTURE.md: the lints find violations and allow the rest."""

import subprocess
import sys

import lint
import pytest

LONG = "\n".join("x = 1" for _ in range(lint.MAX_MODULE + 1))
LONG_FUNCTION = "def f():\n" + "\n".join("    x = 1" for _ in range(lint.MAX_FUNCTION))
MACHINE = "/".join(("", "root", "models"))
REGISTRY = ".".join(("pypi", "org"))
UNDONE = "raise " + "NotImplementedError"

CAUGHT = {
    "a module of 401 lines": ("limit_module_length", "src/penstock/gateway/big.py", LONG),
    "a function of 61 lines": ("limit_function_length", "src/penstock/gateway/big.py", LONG_FUNCTION),
    "a script of 401 lines": ("limit_module_length", "scripts/big.py", LONG),
    "global": ("forbid_global", "src/penstock/app/gateway.py", "def f():\n    global x\n    x = 1"),
    "an import inside a function": (
        "require_imports_at_the_top",
        "src/penstock/app/gateway.py",
        "def f():\n    import json",
    ),
    "an import inside a method": (
        "require_imports_at_the_top",
        "src/penstock/app/gateway.py",
        "class A:\n    def f(self):\n        from a import b",
    ),
    "utils.py": ("forbid_vague_file_names", "src/penstock/gateway/utils.py", ""),
    "a folder of helpers": ("forbid_vague_file_names", "src/penstock/helpers/text.py", ""),
    "session_manager.py": ("forbid_vague_file_names", "src/penstock/control/session_manager.py", ""),
    "service.py that is no dialect": ("forbid_vague_file_names", "src/penstock/control/service.py", ""),
    "a coroutine in an engine": ("forbid_coroutines_in_pure_code", "src/penstock/engines/new.py", "async def f(): ..."),
    "a coroutine in a method of routing": (
        "forbid_coroutines_in_pure_code",
        "src/penstock/gateway/routing/router.py",
        "class A:\n    async def f(self): ...",
    ),
    "asyncio in routing": ("forbid_clients_in_pure_code", "src/penstock/gateway/routing/router.py", "import asyncio"),
    "an HTTP client in a dialect": ("forbid_clients_in_pure_code", "src/penstock/dialects/a.py", "import http.client"),
    "an HTTP client by another form of import": (
        "forbid_clients_in_pure_code",
        "src/penstock/dialects/a.py",
        "from urllib import request",
    ),
    "an engine named by the gateway": (
        "forbid_naming_plugins",
        "src/penstock/gateway/pipeline.py",
        "from penstock.engines.ollama import Ollama",
    ),
    "a dialect named as a module": (
        "forbid_naming_plugins",
        "src/penstock/serving/routes.py",
        "from penstock.dialects import openai",
    ),
    "a part of an engine named by the app": (
        "forbid_naming_plugins",
        "src/penstock/app/gateway.py",
        "import penstock.engines.openai_compatible.base",
    ),
    "a cost named from above by a relative import": (
        "forbid_naming_plugins",
        "src/penstock/gateway/routing/router.py",
        "from .costs import load_time",
    ),
    "a part of a dialect named by the API": (
        "forbid_naming_plugins",
        "src/penstock/api/status/routes.py",
        "from penstock.dialects.service import metadata",
    ),
    "a private word": ("require_plain_vocabulary", "src/penstock/app/gateway.py", "told = 1"),
    "a private word within a name": (
        "require_plain_vocabulary",
        "src/penstock/app/gateway.py",
        "def f(what_was_said): ...",
    ),
    "a private word in a test": ("require_plain_vocabulary", "tests/unit/test_a.py", "def test_it_is_told(): ..."),
    "a limit without a unit": ("require_plain_vocabulary", "src/penstock/app/gateway.py", "LONGEST = 5"),
    "a participle as a function": (
        "forbid_participles_as_functions",
        "src/penstock/app/gateway.py",
        "def counted(): ...",
    ),
    "an irregular participle as a method": (
        "forbid_participles_as_functions",
        "src/penstock/app/gateway.py",
        "class A:\n    async def _gone(self): ...",
    ),
    "a relative clause as a docstring": (
        "forbid_relative_docstrings",
        "src/penstock/app/gateway.py",
        'def render_it():\n    """What is rendered."""',
    ),
    "seven positional arguments": (
        "limit_positional_arguments",
        "src/penstock/app/gateway.py",
        "f(1, 2, 3, 4, 5, 6, 7)",
    ),
    "an unfinished function": ("forbid_unfinished_code", "src/penstock/app/gateway.py", f"def f():\n    {UNDONE}"),
    "a note to do something": ("forbid_unfinished_code", "tests/unit/test_a.py", "# TO" + "DO: more"),
    "a folder of some machine": ("forbid_machine_and_registry_names", "docs/settings.md", f"put it into {MACHINE}"),
    "a registry's host": (
        "forbid_machine_and_registry_names",
        "requirements.lock",
        f"--index-url https://{REGISTRY}/simple",
    ),
}

ALLOWED = {
    "a participle as a variable": ("src/penstock/app/gateway.py", "counted = 1\ndef embed(): ..."),
    "arguments by name": ("src/penstock/app/gateway.py", "f(1, 2, 3, 4, 5, 6, g=7)"),
    "a module of 400 lines": ("src/penstock/app/gateway.py", LONG.removesuffix("\nx = 1")),
    "a function of 60 lines": ("src/penstock/app/gateway.py", LONG_FUNCTION.removesuffix("\n    x = 1")),
    "a long test": ("tests/unit/test_long.py", LONG),
    "a marked import inside a function": (
        "src/penstock/app/gateway.py",
        "def f():\n    import big  # lazy: takes a second",
    ),
    "an import for types only": (
        "src/penstock/app/gateway.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a",
    ),
    "the service API's dialect": ("src/penstock/dialects/service/chat.py", ""),
    "a coroutine in the upstream": ("src/penstock/gateway/upstream/transport/pool.py", "async def f(): ..."),
    "an engine's parts named by its siblings": (
        "src/penstock/engines/vllm.py",
        "from penstock.engines.openai_compatible.base import OpenAICompatible",
    ),
    "the base of all engines": ("src/penstock/gateway/pipeline.py", "from penstock.engines.base import Engine"),
    "what a folder loads": (
        "src/penstock/app/gateway.py",
        "from penstock import engines\nfrom penstock.engines import load",
    ),
    "a module that plugins share": (
        "src/penstock/api/status/routes.py",
        "from penstock.dialects.timestamps import format_timestamp",
    ),
    "a test that names what it tests": ("tests/unit/engines/test_a.py", "from penstock.engines.ollama import ENGINE"),
    "a path of an API": ("docs/api.md", "POST /v1/work/items, /v1/opt/in"),
}


@pytest.mark.parametrize(("rule", "path", "text"), CAUGHT.values(), ids=CAUGHT)
def test_the_lints_catch(rule: str, path: str, text: str) -> None:
    assert [finding.rule for finding in lint.check_source(lint.Source(path, text))] == [rule]


@pytest.mark.parametrize(("path", "text"), ALLOWED.values(), ids=ALLOWED)
def test_the_lints_allow(path: str, text: str) -> None:
    assert lint.check_source(lint.Source(path, text)) == []


def test_a_finding_contains_its_location_and_what_to_do() -> None:
    (finding,) = lint.check_source(
        lint.Source("src/penstock/app/gateway.py", "x = 1\n\ndef f():\n    global x\n    x = 2\n")
    )
    assert str(finding) == "src/penstock/app/gateway.py:4: forbid_global: global x: let an object own it"


def test_every_rule_is_tested() -> None:
    rules = {rule.__name__ for path in ("src/a.py", "docs/a.md") for rule in lint.rules_for(path)}
    assert rules == {rule for rule, _, _ in CAUGHT.values()}


@pytest.mark.parametrize("module", ["penstock.gateway", "penstock.gateway.pipeline", "penstock.serving.protocol"])
def test_the_call_path_loads_no_framework(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "penstock" in loaded
    assert {"pydantic", "pydantic_core", "sqlalchemy", "fastapi", "starlette", "yaml"}.isdisjoint(loaded)
