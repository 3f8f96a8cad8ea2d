"""Check the subjects of the commits since the rule was made: `area: imperative`, at most 72 characters.

    python scripts/lints/commit_subjects.py [REVISIONS]

Prints each wrong subject with the reason; exit code 1 when there is one. A clone without that history checks its last
commit only.
"""

import re
import subprocess
import sys
from collections.abc import Iterator

BASE = "b1ea4fe"  # the last commit before the rule
MAX_SUBJECT_LENGTH = 72
SUBJECT = re.compile(r"^(?P<area>[a-z0-9][a-z0-9 ,./_-]*): (?P<verb>[a-z]+)(?:-[a-z]+)*(?: .+)?$")
# Words that look like a participle or a third person and are imperatives.
IMPERATIVES = frozenset(
    {
        "address",
        "access",
        "bring",
        "bypass",
        "compress",
        "discuss",
        "embed",
        "exceed",
        "express",
        "feed",
        "focus",
        "need",
    }
    | {"pass", "press", "process", "proceed", "seed", "speed", "suppress", "toss", "string", "ping", "spread", "shed"}
)


def find_problem(subject: str) -> str:
    """Return what is wrong with a subject, else an empty string."""
    if len(subject) > MAX_SUBJECT_LENGTH:
        return f"{len(subject)} characters, at most {MAX_SUBJECT_LENGTH}"
    found = SUBJECT.match(subject)
    if found is None:
        return "is not `area: imperative`, in lower case"
    verb = found["verb"]
    if verb not in IMPERATIVES and verb.endswith(("ed", "ing", "s")) and not verb.endswith("ss"):
        return f"{verb!r} is not an imperative"
    return ""


def list_commits(revisions: str) -> Iterator[tuple[str, str]]:
    """Yield the short hash and the subject of each commit that is no merge."""
    command = ["git", "log", "--no-merges", "--format=%h %s", revisions]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        commit, _, subject = line.partition(" ")
        yield commit, subject


def choose_revisions() -> str | None:
    """Return the commits to check: those since BASE, the last one in a clone without it, None outside a repository."""
    for revisions, command in (
        (f"{BASE}..HEAD", ["git", "merge-base", "--is-ancestor", BASE, "HEAD"]),
        ("-1", ["git", "rev-parse", "--verify", "HEAD"]),
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return revisions
    return None


def main(arguments: list[str]) -> int:
    revisions = arguments[0] if arguments else choose_revisions()
    if revisions is None:
        print("commit subjects: no repository, nothing to check")
        return 0
    wrong = [(commit, subject, find_problem(subject)) for commit, subject in list_commits(revisions)]
    for commit, subject, problem in wrong:
        if problem:
            print(f"{commit} {subject!r}: {problem}")
    return 1 if any(problem for _, _, problem in wrong) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
