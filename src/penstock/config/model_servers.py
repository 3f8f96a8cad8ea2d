"""Turns what the settings say of providers into the list of model servers, default addresses included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from penstock.config.errors import ConfigError, format_key_path
from penstock.config.file_schema import Ollama, Provider, ServerEntry, ServerOptions, SettingsFile
from penstock.config.located_values import Key, LocatedValue
from penstock.config.server_address import ServerAddress, parse_address
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
class _ServerDraft:
    """A server before its addresses are compared with all others. `urls` go with the keys that said them."""

    kind: Kind
    name: str
    named: bool
    urls: tuple[tuple[str, tuple[Key, ...]], ...]
    options: ServerOptions
    keys: tuple[Key, ...]
    priority: PriorityName = "PRIMARY"
    configured: bool = True


def parse_server_address(kind: Kind, url: str) -> ServerAddress:
    """The address that `url` means for a server of this kind; raises ValueError."""
    usual = _USUAL[kind]
    return parse_address(url, bare_port=usual.port, http_port=usual.http_port, url_suffixes=usual.endings)


class ServerListBuilder:
    """All model servers of the settings. `errors` holds what cannot be, `servers` all that can."""

    def __init__(
        self, file: SettingsFile, tree: LocatedValue, timeouts: TimeoutSettings, *, anything_configured: bool
    ) -> None:
        self.errors: list[ConfigError] = []
        self.servers: list[ServerSettings] = []
        self.default_urls: dict[Kind, str] = {}
        """Kinds whose main server is at its default address."""
        self._file = file
        self._tree = tree
        self._timeouts = timeouts
        self._anything_configured = anything_configured
        self._addresses: dict[tuple[str, int, str], tuple[str, tuple[Key, ...]]] = {}
        self._named_servers: dict[str, tuple[Key, ...]] = {}
        self._build_servers()

    def _build_servers(self) -> None:
        wanted = [*self._list_ollama()]
        for kind in ("vllm", "llamacpp", "mlx", "openai", "victoria"):
            wanted += self._list_provider(kind, getattr(self._file.llm.providers, kind))
        wanted.sort(key=lambda one: not one.configured)
        self._named_servers = {one.name: one.keys for one in reversed(wanted) if one.named}
        for one in wanted:
            self._add_server(one)

    def _is_set(self, *keys: Key) -> bool:
        return self._tree.find(("llm", *keys)) is not None

    def _is_configured(self, kind: Kind, options: Sequence[str]) -> bool:
        """Whether the settings name this kind, though not its address."""
        at = ("providers", kind)
        section: Ollama | Provider = getattr(self._file.llm.providers, kind)
        mode = self._file.llm.mode == kind and self._is_set("mode")
        return bool(section.enabled) or mode or any(self._is_set(*at, option) for option in options)

    def _list_ollama(self) -> Iterator[_ServerDraft]:
        section = self._file.llm.providers.ollama
        keys: tuple[Key, ...] = ("llm", "providers", "ollama")
        if section.enabled is False:
            return
        default = str(_USUAL["ollama"].default_url)
        options_said = self._is_configured("ollama", ("fallback_urls", *_OPTIONS))
        base_url = section.base_url
        if base_url or not section.additional_servers or self._is_any_set(keys, ("fallback_urls", *_OPTIONS)):
            if not base_url:
                self.default_urls["ollama"] = default
            urls = [(base_url or default, (*keys, "base_url"))]
            urls += [(url, (*keys, "fallback_urls", i)) for i, url in enumerate(section.fallback_urls)]
            configured = bool(base_url) or options_said
            yield _ServerDraft("ollama", "primary", bool(base_url), tuple(urls), section, keys, configured=configured)
        yield from self._list_entries("ollama", section.additional_servers, (*keys, "additional_servers"), "SECONDARY")
        if base_url or section.additional_servers:
            here = ((default, keys),)
            yield _ServerDraft("ollama", "localhost", False, here, ServerOptions(), keys, "SECONDARY", configured=False)

    def _list_provider(self, kind: Kind, section: Provider) -> Iterator[_ServerDraft]:
        keys: tuple[Key, ...] = ("llm", "providers", kind)
        if section.enabled is False:
            return
        default = _USUAL[kind].default_url
        if section.url and not self._repeats_entry(kind, section):
            yield _ServerDraft(kind, kind, False, ((section.url, (*keys, "url")),), section, keys)
        elif not section.url and section.servers and self._is_any_set(keys, _OPTIONS):
            option = next(name for name in _OPTIONS if self._is_any_set(keys, (name,)))
            self._add_error((*keys, option), "belongs to `url`, which is not set; say it for each of `servers`")
        elif not section.url and not section.servers:
            configured = self._is_configured(kind, _OPTIONS)
            if default and (configured or kind != "llamacpp" or not self._anything_configured):
                self.default_urls[kind] = default
                yield _ServerDraft(
                    kind, kind, False, ((default, (*keys, "url")),), section, keys, configured=configured
                )
            elif configured:
                self._add_error(keys, "names no server; give it a `url` or a list of `servers`")
        yield from self._list_entries(kind, section.servers, (*keys, "servers"), "PRIMARY")

    def _list_entries(
        self, kind: Kind, entries: Sequence[ServerEntry], keys: tuple[Key, ...], priority: PriorityName
    ) -> Iterator[_ServerDraft]:
        for index, entry in enumerate(entries):
            at = (*keys, index)
            yield _ServerDraft(
                kind, entry.name or kind, entry.name is not None, ((entry.url, (*at, "url")),), entry, at, priority
            )

    def _is_any_set(self, keys: tuple[Key, ...], names: Sequence[str]) -> bool:
        return any(self._tree.find((*keys, name)) is not None for name in names)

    def _repeats_entry(self, kind: Kind, section: Provider) -> bool:
        """A variable may name a server that the file describes in full."""
        node = self._tree.find(("llm", "providers", kind, "url"))
        if node is None or node.source.startswith("file") or section.url is None:
            return False
        place = parse_server_address(kind, section.url).identity
        return any(parse_server_address(kind, entry.url).identity == place for entry in section.servers)

    def _add_server(self, wanted: _ServerDraft) -> None:
        addresses = [(parse_server_address(wanted.kind, url), keys) for url, keys in wanted.urls]
        name = self._choose_name(wanted)
        if not wanted.configured:
            addresses = [one for one in addresses if one[0].identity not in self._addresses]
            if not addresses or self._file.llm.mode == "none":
                self.default_urls.pop(wanted.kind, None)
                return
        for address, keys in addresses:
            if address.identity in self._addresses:
                other, said = self._addresses[address.identity]
                self._add_error(keys, f'is the address of server "{other}" already ({self._describe_source(said)})')
            self._addresses.setdefault(address.identity, (name, keys))
        self._named_servers.setdefault(name, wanted.keys)
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
                timeouts=self._resolve_timeouts(wanted.kind, options.timeout),
                api_key=options.api_key,
                credentials=self._resolve_credentials(wanted, addresses),
            )
        )

    def _choose_name(self, wanted: _ServerDraft) -> str:
        if wanted.named:
            if (first := self._named_servers[wanted.name]) != wanted.keys:
                self._add_error(
                    (*wanted.keys, "name"),
                    f'is "{wanted.name}", the name of another server already ({self._describe_source(first)})',
                )
            return wanted.name
        taken = {server.name for server in self.servers} | set(self._named_servers)
        names = (wanted.name if count == 1 else f"{wanted.name}-{count}" for count in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def _resolve_credentials(
        self, wanted: _ServerDraft, addresses: Sequence[tuple[ServerAddress, tuple[Key, ...]]]
    ) -> str | None:
        said = {address.credentials: keys for address, keys in addresses if address.credentials}
        if len(said) > 1:
            self._add_error(list(said.values())[-1], "has other credentials than the server's first address")
        if said and wanted.options.api_key:
            self._add_error((*wanted.keys, "api_key"), "cannot go with credentials in the address; keep one of the two")
        return next(iter(said), None)

    def _resolve_timeouts(self, kind: Kind, timeout: float | None) -> TimeoutSettings:
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

    def _describe_source(self, keys: tuple[Key, ...]) -> str:
        node = self._tree.find(keys)
        return node.source.removeprefix("file ") if node else "default"

    def _add_error(self, keys: tuple[Key, ...], message: str) -> None:
        node = self._tree.find(keys)
        near = node or self._tree.find(keys[:-1]) or self._tree
        self.errors.append(ConfigError(format_key_path(node.path if node else keys), near.source, message))
