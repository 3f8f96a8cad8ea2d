"""The rules of ARCHITECTURE.md that neither ruff nor an import graph can check; each is one function below.

    python scripts/lints/lint.py

Prints `file:line: rule: what is wrong and what to do` for each finding; exit code 1 when there is one.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, wraps
from pathlib import Path, PurePosixPath

import naming

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("src", "tests", "scripts", "docs", "bench", "training", "deploy", ".ci")
SIZED = ("src/", "scripts/", "bench/", "training/")
NAMED = (*SIZED, "tests/")
NOT_NAMED = ("tests/sim/",)
TEXT = frozenset({".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".html", ".txt", ".cfg", ".ini", ".lock", ""})

MAX_MODULE = 400
MAX_FUNCTION = 50
VAGUE = frozenset({"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"})
PURE = ("penstock.domain", "penstock.dialects", "penstock.engines", "penstock.gateway.routing")
CLIENTS = ("http.client", "urllib.request")  # the parts of packages that import-linter cannot tell from the whole
PLUGINS = ("penstock.dialects", "penstock.engines", "penstock.gateway.routing.costs", "penstock.sim.kinds")
PLUGIN = re.compile(r"^(?:DIALECTS?|ENGINE|COST|KIND)\b", re.MULTILINE)
FOREIGN = (
    re.compile(r"(?<![\w.}-])/(?:work|root|home/\w+|Users/\w+|opt)/"),
    re.compile(r"\b(?:pypi\.org|pythonhosted\.org|registry\.npmjs|crates\.io|proxy\.golang|test\.pypi)", re.IGNORECASE),
)
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|\braise NotImplementedError\b")


@dataclass(frozen=True)
class Source:
    """One file; `path` is relative to the checkout, with slashes."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def name(self) -> str:
        """The module's name where it is part of the package, else an empty string."""
        if not self.path.startswith("src/") or not self.path.endswith(".py"):
            return ""
        return self.path.removeprefix("src/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and full name of everything imported, `from a import b` being `a.b`."""
        found: list[tuple[int, str]] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        return found

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        is_package = self.path.endswith("/__init__.py")
        parts = self.name.split(".")
        above = parts[: len(parts) - node.level + is_package]
        return ".".join([*above, *([node.module] if node.module else [])])


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


Rule = Callable[[Source], Iterator[tuple[int, str]]]


def limit_module_length(source: Source) -> Iterator[tuple[int, str]]:
    if len(source.lines) > MAX_MODULE:
        yield MAX_MODULE + 1, f"{len(source.lines)} lines, at most {MAX_MODULE}: split it by what changes together"


def limit_function_length(source: Source) -> Iterator[tuple[int, str]]:
    for function in source.functions:
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > MAX_FUNCTION:
            yield function.lineno, f"{function.name} has {length} lines, at most {MAX_FUNCTION}: name its parts"


def forbid_global(source: Source) -> Iterator[tuple[int, str]]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield node.lineno, f"global {', '.join(node.names)}: let an object own it"


def require_imports_at_the_top(source: Source) -> Iterator[tuple[int, str]]:
    for function in source.functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom) and "# lazy: " not in source.lines[node.lineno - 1]:
                yield (
                    node.lineno,
                    "an import inside a function: move it up, or say `# lazy: why` for a heavy one",
                )


def forbid_vague_file_names(source: Source) -> Iterator[tuple[int, str]]:
    path = PurePosixPath(source.path)
    vague = VAGUE.intersection(part for name in (path.stem, *path.parent.parts) for part in name.split("_"))
    if path.stem == "service" and path.parent.name != "dialects":
        vague |= {"service"}
    for name in sorted(vague):
        yield 1, f"a file called {name!r} collects anything: name it for what it does"


def forbid_coroutines_in_pure_code(source: Source) -> Iterator[tuple[int, str]]:
    if _within(source.name, PURE):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
                yield node.lineno, f"a coroutine in {source.name}: decisions and translations are plain functions"


def forbid_clients_in_pure_code(source: Source) -> Iterator[tuple[int, str]]:
    if _within(source.name, PURE):
        for line, name in source.imports:
            if _within(name, (*CLIENTS, "asyncio")):
                yield line, f"{name} in {source.name}: it is handed bytes and gives values"


def forbid_naming_plugins(source: Source) -> Iterator[tuple[int, str]]:
    """Forbid naming an engine, dialect, cost or simulated kind outside its folder, which loads them."""
    for folder in PLUGINS:
        if _within(source.name, (folder,)):
            continue
        for line, name in source.imports:
            module = name.removeprefix(f"{folder}.").split(".")[0] if name.startswith(f"{folder}.") else "base"
            if module not in ("base", "load") and not module.isupper() and _is_plugin(folder, module):
                yield line, f"{name} is named outside {folder}: use what its load() finds"


def forbid_unfinished_code(source: Source) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.lines, 1):
        if found := UNFINISHED.search(line):
            yield number, f"{found[0]}: finish it, or leave it out"


def forbid_machine_and_registry_names(source: Source) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.lines, 1):
        for pattern in FOREIGN:
            if found := pattern.search(line):
                yield number, f"{found[0]!r} is the name of some machine's folder or of a registry: it does not belong"


def _on_tree(rule: Callable[[ast.Module], Iterator[tuple[int, str]]]) -> Rule:
    """Adapt a naming rule, which reads the parsed module only."""

    @wraps(rule)
    def check_source(source: Source) -> Iterator[tuple[int, str]]:
        return rule(source.tree)

    return check_source


NAMING: tuple[Rule, ...] = tuple(map(_on_tree, naming.RULES))
CODE: tuple[Rule, ...] = (
    _on_tree(naming.limit_positional_arguments),
    require_imports_at_the_top,
    forbid_global,
    forbid_coroutines_in_pure_code,
    forbid_clients_in_pure_code,
    forbid_naming_plugins,
    forbid_vague_file_names,
)
SIZES: tuple[Rule, ...] = (limit_module_length, limit_function_length)


def rules_for(path: str) -> tuple[Rule, ...]:
    """Return the rules for a file: tests may be long, but their names follow the same rules."""
    rules: tuple[Rule, ...] = ()
    if path not in ("scripts/lints/lint.py", "scripts/lints/naming.py"):
        rules += (forbid_machine_and_registry_names,)
        if path.endswith(".py"):
            rules += (forbid_unfinished_code,)
    if path.endswith(".py"):
        rules += SIZES if path.startswith(SIZED) else ()
        rules += NAMING if path.startswith(NAMED) and not path.startswith(NOT_NAMED) else ()
        rules += CODE if path.startswith("src/") else ()
    return rules


def check_source(source: Source, rules: tuple[Rule, ...] | None = None) -> list[Finding]:
    """Return the findings for one file."""
    chosen = rules_for(source.path) if rules is None else rules
    return [Finding(source.path, line, rule.__name__, message) for rule in chosen for line, message in rule(source)]


def list_sources(root: Path) -> Iterator[Source]:
    """Yield every text file of the checkout that people write."""
    folders = [path for place in PLACES if (path := root / place).is_dir()]
    files = [path for path in root.iterdir() if path.is_file() and path.name not in (".env", ".git")]
    files += [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for path in sorted(files):
        if path.suffix in TEXT and "__pycache__" not in path.parts and ".egg-info" not in str(path):
            try:
                yield Source(path.relative_to(root).as_posix(), path.read_text("utf-8"))
            except UnicodeDecodeError:
                continue


@cache
def _is_plugin(package: str, module: str) -> bool:
    """Tell a module that the package loads (it defines a `DIALECT`, `ENGINE` …) from one that plugins share."""
    path = ROOT / "src" / package.replace(".", "/") / module
    files = [path / "__init__.py", path / "engine.py"] if path.is_dir() else [path.with_suffix(".py")]
    found = [file.read_text("utf-8") for file in files if file.exists()]
    return not found or any(map(PLUGIN.search, found))


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def main() -> int:
    found = [finding for source in list_sources(ROOT) for finding in check_source(source)]
    for finding in found:
        print(finding)
    print(f"lints: {len(found)} found" if found else "lints: clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
