"""Figures about names and shapes of `src/penstock`.

python scripts/lints/measures.py
"""

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import naming

SOURCE = Path(__file__).resolve().parents[2] / "src" / "penstock"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Measures:
    """Counts over all modules; `fan_out` is the number of imported modules of the package, by module."""

    modules: int
    max_module_lines: int
    functions: int
    max_function_lines: int
    one_word_functions: int
    bare_participles: int
    docstrings: int
    relative_docstrings: int
    long_calls: int
    family_files: int
    fan_out: dict[str, int]

    @property
    def one_word_percent(self) -> float:
        """Share of functions whose name is one word, in per cent."""
        return 100 * self.one_word_functions / self.functions

    def max_fan_out(self, prefix: str) -> int:
        """Return the largest import fan-out of the modules whose path starts with `prefix`."""
        return max(count for path, count in self.fan_out.items() if path.startswith(prefix))


def measure_source(root: Path = SOURCE) -> Measures:
    """Parse every module below `root` and count."""
    texts = {path: path.read_text("utf-8") for path in root.rglob("*.py")}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    functions = [node for tree in trees.values() for node in _find_functions(tree)]
    names = [function.name for function in functions if not function.name.startswith("__")]
    docstrings = [text for tree in trees.values() for text in _find_docstrings(tree)]
    return Measures(
        modules=len(trees),
        max_module_lines=max(text.count("\n") for text in texts.values()),
        functions=len(names),
        max_function_lines=max((node.end_lineno or node.lineno) - node.lineno + 1 for node in functions),
        one_word_functions=sum("_" not in name.strip("_") for name in names),
        bare_participles=sum(map(naming.is_bare_participle, names)),
        docstrings=len(docstrings),
        relative_docstrings=sum(bool(naming.RELATIVE.match(text)) for text in docstrings),
        long_calls=sum(len(list(naming.limit_positional_arguments(tree))) for tree in trees.values()),
        family_files=sum(map(_count_family_files, _group_by_folder(trees))),
        fan_out={path.relative_to(root).as_posix(): len(_find_imports(tree)) for path, tree in trees.items()},
    )


def _find_functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _find_docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
            yield text


def _find_imports(tree: ast.Module) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in found if name.partition(".")[0] == "penstock"}


def _group_by_folder(trees: dict[Path, ast.Module]) -> list[list[str]]:
    folders: dict[Path, list[str]] = defaultdict(list)
    for path in trees:
        folders[path.parent].append(path.stem)
    return list(folders.values())


def _count_family_files(stems: list[str]) -> int:
    """Count the files of a folder that share the first word of their name with another one."""
    first_words = Counter(stem.partition("_")[0] for stem in stems if stem != "__init__")
    return sum(count for count in first_words.values() if count > 1)


def main() -> int:
    measures = measure_source()
    for name in Measures.__dataclass_fields__:
        if name != "fan_out":
            print(f"{name:20} {getattr(measures, name)}")
    widest = sorted(measures.fan_out.items(), key=lambda item: -item[1])[:8]
    print("fan_out              " + ", ".join(f"{path} {count}" for path, count in widest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
