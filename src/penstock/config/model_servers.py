"""Turns what the settings say of providers into the list of model servers, default addresses included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from penstock.config.errors import Mistake, key_path
from penstock.config.file_schema import File, Ollama, Provider, ServerEntry, ServerOptions
from penstock.config.located_values import Key, Node
from penstock.config.server_address import Address, parse_address
from penstock.config.settings import Kind, PriorityName, ServerSettings, TimeoutSettings

AGENT_SECONDS = 600.0
"""An agent's answer may take minutes."""


@dataclass(frozen=True, slots=True)
class _Usual:
    """What is usual for a kind of server: where it listens, how many calls it takes at a time."""

    port: int
    default_url: str | None = None
    http_port: int = 80
    endings: tuple[str, ...] = ("/v1",)
    slots: int = 2


_USUAL: dict[Kind, _Usual] = {
    "ollama": _Usual(11434, "http://localhost:11434", http_port=11434, endings=("/v1", "/api")),
    "vllm": _Usual(8000, "http://localhost:8000", slots=16),
    "llamacpp": _Usual(8080, "http://localhost:8080"),
    "mlx": _Usual(11435, "http://localhost:11435", endings=("/v1", "/api")),
    "openai": _Usual(80),
    "victoria": _Usual(8010, "http://localhost:8010"),
}
_OPTIONS = tuple(ServerOptions.model_fields)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A server before its addresses are compared with all others. `urls` go with the keys that said them."""

    kind: Kind
    name: str
    named: bool
    urls: tuple[tuple[str, tuple[Key, ...]], ...]
    options: ServerOptions
    keys: tuple[Key, ...]
    priority: PriorityName = "PRIMARY"
    configured: bool = True


def server_address(kind: Kind, url: str) -> Address:
    """The address that `url` means for a server of this kind; raises ValueError."""
    usual = _USUAL[kind]
    return parse_address(url, bare_port=usual.port, http_port=usual.http_port, endings=usual.endings)


class Fleet:
    """All model servers of the settings. `mistakes` holds what cannot be, `servers` all that can."""

    def __init__(self, file: File, tree: Node, timeouts: TimeoutSettings, *, anything_configured: bool) -> None:
        self.mistakes: list[Mistake] = []
        self.servers: list[ServerSettings] = []
        self.defaults: dict[Kind, str] = {}
        """Kinds whose main server is at its default address."""
        self._file = file
        self._tree = tree
        self._timeouts = timeouts
        self._anything_configured = anything_configured
        self._places: dict[tuple[str, int, str], tuple[str, tuple[Key, ...]]] = {}
        self._named: dict[str, tuple[Key, ...]] = {}
        self._gather()

    def _gather(self) -> None:
        wanted = [*self._ollama()]
        for kind in ("vllm", "llamacpp", "mlx", "openai", "victoria"):
            wanted += self._provider(kind, getattr(self._file.llm.providers, kind))
        wanted.sort(key=lambda one: not one.configured)
        self._named = {one.name: one.keys for one in reversed(wanted) if one.named}
        for one in wanted:
            self._add(one)

    def _written(self, *keys: Key) -> bool:
        return self._tree.find(("llm", *keys)) is not None

    def _asked_for(self, kind: Kind, options: Sequence[str]) -> bool:
        """Whether the settings name this kind, though not its address."""
        at = ("providers", kind)
        section: Ollama | Provider = getattr(self._file.llm.providers, kind)
        mode = self._file.llm.mode == kind and self._written("mode")
        return bool(section.enabled) or mode or any(self._written(*at, option) for option in options)

    def _ollama(self) -> Iterator[_Wanted]:
        section = self._file.llm.providers.ollama
        keys: tuple[Key, ...] = ("llm", "providers", "ollama")
        if section.enabled is False:
            return
        default = str(_USUAL["ollama"].default_url)
        options_said = self._asked_for("ollama", ("fallback_urls", *_OPTIONS))
        base_url = section.base_url
        if base_url or not section.additional_servers or self._any(keys, ("fallback_urls", *_OPTIONS)):
            if not base_url:
                self.defaults["ollama"] = default
            urls = [(base_url or default, (*keys, "base_url"))]
            urls += [(url, (*keys, "fallback_urls", i)) for i, url in enumerate(section.fallback_urls)]
            configured = bool(base_url) or options_said
            yield _Wanted("ollama", "primary", bool(base_url), tuple(urls), section, keys, configured=configured)
        yield from self._entries("ollama", section.additional_servers, (*keys, "additional_servers"), "SECONDARY")
        if base_url or section.additional_servers:
            here = ((default, keys),)
            yield _Wanted("ollama", "localhost", False, here, ServerOptions(), keys, "SECONDARY", configured=False)

    def _provider(self, kind: Kind, section: Provider) -> Iterator[_Wanted]:
        keys: tuple[Key, ...] = ("llm", "providers", kind)
        if section.enabled is False:
            return
        default = _USUAL[kind].default_url
        if section.url and not self._repeats(kind, section):
            yield _Wanted(kind, kind, False, ((section.url, (*keys, "url")),), section, keys)
        elif not section.url and section.servers and self._any(keys, _OPTIONS):
            option = next(name for name in _OPTIONS if self._any(keys, (name,)))
            self._mistake((*keys, option), "belongs to `url`, which is not set; say it for each of `servers`")
        elif not section.url and not section.servers:
            configured = self._asked_for(kind, _OPTIONS)
            if default and (configured or kind != "llamacpp" or not self._anything_configured):
                self.defaults[kind] = default
                yield _Wanted(kind, kind, False, ((default, (*keys, "url")),), section, keys, configured=configured)
            elif configured:
                self._mistake(keys, "names no server; give it a `url` or a list of `servers`")
        yield from self._entries(kind, section.servers, (*keys, "servers"), "PRIMARY")

    def _entries(
        self, kind: Kind, entries: Sequence[ServerEntry], keys: tuple[Key, ...], priority: PriorityName
    ) -> Iterator[_Wanted]:
        for index, entry in enumerate(entries):
            at = (*keys, index)
            yield _Wanted(
                kind, entry.name or kind, entry.name is not None, ((entry.url, (*at, "url")),), entry, at, priority
            )

    def _any(self, keys: tuple[Key, ...], names: Sequence[str]) -> bool:
        return any(self._tree.find((*keys, name)) is not None for name in names)

    def _repeats(self, kind: Kind, section: Provider) -> bool:
        """A variable may name a server that the file describes in full."""
        node = self._tree.find(("llm", "providers", kind, "url"))
        if node is None or node.source.startswith("file") or section.url is None:
            return False
        place = server_address(kind, section.url).place
        return any(server_address(kind, entry.url).place == place for entry in section.servers)

    def _add(self, wanted: _Wanted) -> None:
        addresses = [(server_address(wanted.kind, url), keys) for url, keys in wanted.urls]
        name = self._name(wanted)
        if not wanted.configured:
            addresses = [one for one in addresses if one[0].place not in self._places]
            if not addresses or self._file.llm.mode == "none":
                self.defaults.pop(wanted.kind, None)
                return
        for address, keys in addresses:
            if address.place in self._places:
                other, said = self._places[address.place]
                self._mistake(keys, f'is the address of server "{other}" already ({self._source(said)})')
            self._places.setdefault(address.place, (name, keys))
        self._named.setdefault(name, wanted.keys)
        options = wanted.options
        self.servers.append(
            ServerSettings(
                name=name,
                kind=wanted.kind,
                urls=tuple(dict.fromkeys(address.url for address, _ in addresses)),
                priority=options.priority or wanted.priority,
                max_concurrent=options.max_concurrent or _USUAL[wanted.kind].slots,
                configured=wanted.configured,
                models=tuple(options.models),
                verify_tls=options.verify_tls,
                timeouts=self._limits(wanted.kind, options.timeout),
                api_key=options.api_key,
                credentials=self._credentials(wanted, addresses),
            )
        )

    def _name(self, wanted: _Wanted) -> str:
        if wanted.named:
            if (first := self._named[wanted.name]) != wanted.keys:
                self._mistake(
                    (*wanted.keys, "name"),
                    f'is "{wanted.name}", the name of another server already ({self._source(first)})',
                )
            return wanted.name
        taken = {server.name for server in self.servers} | set(self._named)
        names = (wanted.name if count == 1 else f"{wanted.name}-{count}" for count in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def _credentials(self, wanted: _Wanted, addresses: Sequence[tuple[Address, tuple[Key, ...]]]) -> str | None:
        said = {address.credentials: keys for address, keys in addresses if address.credentials}
        if len(said) > 1:
            self._mistake(list(said.values())[-1], "has other credentials than the server's first address")
        if said and wanted.options.api_key:
            self._mistake((*wanted.keys, "api_key"), "cannot go with credentials in the address; keep one of the two")
        return next(iter(said), None)

    def _limits(self, kind: Kind, timeout: float | None) -> TimeoutSettings:
        """This server's time-outs: `timeout` bounds the whole answer, and the first byte with it."""
        general = self._timeouts
        if timeout is None:
            if kind != "victoria" or general.total is None or general.total >= AGENT_SECONDS:
                return general
            timeout = AGENT_SECONDS
        total = timeout or None
        first_byte = general.first_byte
        if first_byte == general.total or (first_byte and total and first_byte > total):
            first_byte = total
        return replace(general, first_byte=first_byte, total=total)

    def _source(self, keys: tuple[Key, ...]) -> str:
        node = self._tree.find(keys)
        return node.source.removeprefix("file ") if node else "default"

    def _mistake(self, keys: tuple[Key, ...], message: str) -> None:
        node = self._tree.find(keys)
        near = node or self._tree.find(keys[:-1]) or self._tree
        self.mistakes.append(Mistake(key_path(node.path if node else keys), near.source, message))
