"""Names of models: the forms that Ollama takes for one and the same model.

`m`, `m:latest`, `library/m`, `registry.ollama.ai/library/m:latest`, `https://registry.ollama.ai/library/m` and
`m:local` name one model, whatever the case of their letters. Source: Ollama's `types/model/name.go` and
`internal/modelref`.
"""

_HOST, _NAMESPACE, _TAG, _LOCAL = "registry.ollama.ai", "library", ":latest", ":local"
_MAX_LENGTH = 1024  # no real name is longer; others are not worth the parsing


def normalize_model_name(name: str) -> str:
    """Return the shortest of a model's names, in lower case: the form for comparison."""
    return shorten_model_name(name).lower()


def shorten_model_name(name: str) -> str:
    """Return a model's name without the parts that Ollama adds by itself; the case of its letters stays."""
    name = name.strip()
    if len(name) > _MAX_LENGTH:
        return name
    if name[-len(_LOCAL) :].lower() == _LOCAL:
        name = name[: -len(_LOCAL)].rstrip()
    scheme, _, address = name.rpartition("://")
    *path, model = address.split("/")
    prefix = "/".join(path).lower()
    if prefix == f"{_HOST}/{_NAMESPACE}" or (prefix == _NAMESPACE and not scheme):
        name = model
    elif len(path) == 2 and path[0].lower() == _HOST:
        name = f"{path[1]}/{model}"
    return name[: -len(_TAG)] if name[-len(_TAG) :].lower() == _TAG else name
