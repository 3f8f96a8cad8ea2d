"""List of model servers, built from the provider sections of the settings, default addresses included."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from penstock.config.errors import ConfigError, format_key_path
from penstock.config.file_schema import OllamaSection, ProviderSection, ServerEntry, ServerOptions, SettingsFile
from penstock.config.kinds import Kinds
from penstock.config.located_values import Key, LocatedValue
from penstock.config.server_address import ServerAddress, parse_server_address
from penstock.config.settings import PriorityName, ServerSettings, TimeoutSettings

_OPTIONS = tuple(ServerOptions.model_fields)


@dataclass(frozen=True, slots=True)
class _ServerDraft:
    """A server before its addresses are compared with those of the others. `urls` go with the keys that set them."""

    kind: str
    name: str
    is_named: bool
    urls: tuple[tuple[str, tuple[Key, ...]], ...]
    options: ServerOptions
    keys: tuple[Key, ...]
    priority: PriorityName = "PRIMARY"
    configured: bool = True


class ServerListBuilder:
    """Builder of the list of model servers: `servers` are the valid ones, `errors` the rest."""

    def __init__(
        self,
        file: SettingsFile,
        tree: LocatedValue,
        kinds: Kinds,
        timeouts: TimeoutSettings,
        *,
        anything_configured: bool,
    ) -> None:
        self.errors: list[ConfigError] = []
        self.servers: list[ServerSettings] = []
        self.default_urls: dict[str, str] = {}
        """Addresses of main servers that are at their default address, by kind."""
        self._file = file
        self._tree = tree
        self._kinds = kinds
        self._timeouts = timeouts
        self._anything_configured = anything_configured
        self._addresses: dict[tuple[str, int, str], tuple[str, tuple[Key, ...]]] = {}
        """Name and key of the server at each address."""
        self._named_servers: dict[str, tuple[Key, ...]] = {}
        self._build_servers()

    def _build_servers(self) -> None:
        drafts: list[_ServerDraft] = []
        for kind in self._kinds:
            section = self._file.llm.providers.get_section(kind)
            if isinstance(section, OllamaSection):
                drafts += self._list_ollama(section)
            else:
                drafts += self._list_provider(kind, section)
        drafts.sort(key=lambda draft: not draft.configured)
        self._named_servers = {draft.name: draft.keys for draft in reversed(drafts) if draft.is_named}
        for draft in drafts:
            self._add_server(draft)

    def _is_set(self, *keys: Key) -> bool:
        return self._tree.find(("llm", *keys)) is not None

    def _is_any_set(self, keys: tuple[Key, ...], names: Sequence[str]) -> bool:
        return any(self._tree.find((*keys, name)) is not None for name in names)

    def _is_configured(self, kind: str, options: Sequence[str]) -> bool:
        """Return True when the settings name this kind, though not its address."""
        is_mode = self._file.llm.mode == kind and self._is_set("mode")
        is_enabled = bool(self._file.llm.providers.get_section(kind).enabled)
        return is_enabled or is_mode or any(self._is_set("providers", kind, option) for option in options)

    def _list_ollama(self, section: OllamaSection) -> Iterator[_ServerDraft]:
        keys: tuple[Key, ...] = ("llm", "providers", "ollama")
        default = self._kinds["ollama"].default_url
        if section.enabled is False or default is None:
            return
        base_url = section.base_url
        if base_url or not section.additional_servers or self._is_any_set(keys, ("fallback_urls", *_OPTIONS)):
            if not base_url:
                self.default_urls["ollama"] = default
            urls = [(base_url or default, (*keys, "base_url"))]
            urls += [(url, (*keys, "fallback_urls", index)) for index, url in enumerate(section.fallback_urls)]
            configured = bool(base_url) or self._is_configured("ollama", ("fallback_urls", *_OPTIONS))
            yield _ServerDraft("ollama", "primary", bool(base_url), tuple(urls), section, keys, configured=configured)
        yield from self._list_entries("ollama", section.additional_servers, (*keys, "additional_servers"), "SECONDARY")
        is_elsewhere = bool(base_url or section.additional_servers)
        if is_elsewhere and section.distributed_mode and section.include_localhost:
            yield _ServerDraft(
                kind="ollama",
                name="localhost",
                is_named=False,
                urls=((default, keys),),
                options=ServerOptions(),
                keys=keys,
                priority="SECONDARY",
                configured=False,
            )

    def _list_provider(self, kind: str, section: ProviderSection) -> Iterator[_ServerDraft]:
        keys: tuple[Key, ...] = ("llm", "providers", kind)
        if section.enabled is False:
            return
        if section.url and not self._repeats_entry(kind, section):
            yield _ServerDraft(kind, kind, False, ((section.url, (*keys, "url")),), section, keys)
        elif not section.url and section.servers and self._is_any_set(keys, _OPTIONS):
            option = next(name for name in _OPTIONS if self._is_any_set(keys, (name,)))
            self._add_error((*keys, option), "belongs to `url`, which is not set; set it for each of `servers`")
        elif not section.url and not section.servers:
            configured = self._is_configured(kind, _OPTIONS)
            default = self._choose_default_url(kind, configured)
            if default:
                self.default_urls[kind] = default
                urls = ((default, (*keys, "url")),)
                yield _ServerDraft(kind, kind, False, urls, section, keys, configured=configured)
            elif configured:
                self._add_error(keys, "names no server; set `url` or a list of `servers`")
        yield from self._list_entries(kind, section.servers, (*keys, "servers"), "PRIMARY")

    def _choose_default_url(self, kind: str, configured: bool) -> str | None:
        defaults = self._kinds[kind]
        if defaults.local_probe == "unconfigured" and self._anything_configured and not configured:
            return None
        return defaults.default_url

    def _list_entries(
        self, kind: str, entries: Sequence[ServerEntry], keys: tuple[Key, ...], priority: PriorityName
    ) -> Iterator[_ServerDraft]:
        for index, entry in enumerate(entries):
            entry_keys = (*keys, index)
            yield _ServerDraft(
                kind=kind,
                name=entry.name or kind,
                is_named=entry.name is not None,
                urls=((entry.url, (*entry_keys, "url")),),
                options=entry,
                keys=entry_keys,
                priority=priority,
            )

    def _repeats_entry(self, kind: str, section: ProviderSection) -> bool:
        """Return True when a variable names a server that the file describes in `servers`."""
        node = self._tree.find(("llm", "providers", kind, "url"))
        if node is None or node.source.startswith("file") or section.url is None:
            return False
        defaults = self._kinds[kind]
        identity = parse_server_address(defaults, section.url).identity
        return any(parse_server_address(defaults, entry.url).identity == identity for entry in section.servers)

    def _add_server(self, draft: _ServerDraft) -> None:
        defaults = self._kinds[draft.kind]
        addresses = [(parse_server_address(defaults, url), keys) for url, keys in draft.urls]
        name = self._choose_name(draft)
        if not draft.configured:
            addresses = [(address, keys) for address, keys in addresses if address.identity not in self._addresses]
            if not addresses or self._file.llm.mode == "none":
                self.default_urls.pop(draft.kind, None)
                return
        for address, keys in addresses:
            if address.identity in self._addresses:
                other, other_keys = self._addresses[address.identity]
                self._add_error(
                    keys, f'is already the address of server "{other}" ({self._describe_source(other_keys)})'
                )
            self._addresses.setdefault(address.identity, (name, keys))
        self._named_servers.setdefault(name, draft.keys)
        options = draft.options
        self.servers.append(
            ServerSettings(
                name=name,
                kind=draft.kind,
                urls=tuple(dict.fromkeys(address.url for address, _ in addresses)),
                priority=options.priority or draft.priority,
                max_concurrent=options.max_concurrent or defaults.slots,
                configured=draft.configured,
                models=tuple(options.models),
                verify_tls=options.verify_tls,
                timeouts=self._resolve_timeouts(defaults.min_timeout, options.timeout),
                api_key=options.api_key,
                credentials=self._resolve_credentials(draft, addresses),
            )
        )

    def _choose_name(self, draft: _ServerDraft) -> str:
        if draft.is_named:
            if (first := self._named_servers[draft.name]) != draft.keys:
                self._add_error(
                    (*draft.keys, "name"),
                    f'is "{draft.name}", which is already the name of another server ({self._describe_source(first)})',
                )
            return draft.name
        taken = {server.name for server in self.servers} | set(self._named_servers)
        names = (draft.name if count == 1 else f"{draft.name}-{count}" for count in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def _resolve_credentials(
        self, draft: _ServerDraft, addresses: Sequence[tuple[ServerAddress, tuple[Key, ...]]]
    ) -> str | None:
        found = {address.credentials: keys for address, keys in addresses if address.credentials}
        if len(found) > 1:
            self._add_error(list(found.values())[-1], "has other credentials than the server's first address")
        if found and draft.options.api_key:
            self._add_error((*draft.keys, "api_key"), "cannot be combined with credentials in the address; keep one")
        return next(iter(found), None)

    def _resolve_timeouts(self, min_timeout: float, timeout: float | None) -> TimeoutSettings:
        """Resolve the timeouts of one server: `timeout` limits the whole response, and the first byte with it."""
        general = self._timeouts
        if timeout is None:
            if general.total is None or general.total >= min_timeout:
                return general
            timeout = min_timeout
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
        nearest = node or self._tree.find(keys[:-1]) or self._tree
        self.errors.append(ConfigError(format_key_path(node.path if node else keys), nearest.source, message))
