"""Reads what OpenAI-compatible servers answer: streams of events, and whole bodies.

Tolerant of what real servers do: comments, CRLF, `data:` without a space, no `[DONE]`, a whole body where a stream
was asked for, errors as events of their own name.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from penstock.domain.errors import UpstreamCut, UpstreamGarbage
from penstock.domain.response import Chunk
from penstock.engines.openai_compatible.errors import sentence, stream_error
from penstock.engines.openai_compatible.response import NULL, AnswerObject, chunks, parse_answer

MAX_EVENT = 16 << 20  # bytes: the longest tool call fits
MAX_WHOLE = 256 << 20  # bytes: the embeddings of a large batch fit

_decode = msgspec.json.Decoder(AnswerObject).decode
_FIELDS = frozenset({b"id", b"retry", b""})


class WholeReader:
    """Keeps a body until it is whole, then has it parsed."""

    def __init__(self, title: str, parse: Callable[[bytes, str], Iterable[Chunk]]) -> None:
        self._title = title
        self._parse = parse
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Nothing yet."""
        self._size += len(data)
        if self._size > MAX_WHOLE:
            raise UpstreamGarbage(f"{self._title} sent more than {MAX_WHOLE >> 20} MiB for one answer.")
        self._pieces.append(data)
        return ()

    def close(self) -> Iterable[Chunk]:
        """The whole answer's chunks."""
        body = b"".join(self._pieces)
        if not body.strip():
            raise UpstreamCut(f"{self._title} sent an empty answer: try again, and look at its log if it stays so.")
        try:
            return tuple(self._parse(body, self._title))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamGarbage(f"{self._title} sent an answer that cannot be read: {error}.") from None


class EventReader:
    """Reads a stream of server-sent events, however it is cut."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._between = True  # two events: nothing of the next has come
        self._held: list[bytes] = []  # the pieces of a line that has not ended
        self._size = 0  # of what is held of an event
        self._data: list[bytes] = []  # the data lines of an event that has not ended
        self._name = b""
        self._done = False
        self._choices = 1
        self._finished: set[int] = set()
        self._opening = True  # nothing but space has come
        self._instead: WholeReader | None = None  # set when no stream came, but a body

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """The chunks that these bytes complete; those before an error come before it is raised."""
        if self._between and data[:7] == b"data: {" and data[-3:] == b"}\n\n" and data.find(b"\n") == len(data) - 2:
            return self._event(data[6:-2])
        return self._feed(data)

    def close(self) -> Iterator[Chunk]:
        """What was held back. A finish reason of every choice is enough of an end, `[DONE]` is another."""
        if self._instead is not None:
            yield from self._instead.close()
            return
        if self._held:
            yield from self._take(b"".join(self._held).removesuffix(b"\r"))
        if self._data:
            yield from self._take(b"")
        if not self._done and len(self._finished) < self._choices:
            raise UpstreamCut(f"{self._title} ended the answer before it was whole: try again.")

    def _feed(self, data: bytes) -> Iterator[Chunk]:
        if self._opening and (start := data.lstrip()[:1]):
            self._opening = False
            self._instead = WholeReader(self._title, parse_answer) if start == b"{" else None
        if self._instead is not None:
            self._instead.feed(data)
            return
        self._size += len(data)
        if b"\n" in data:
            lines = b"".join((*self._held, data)).split(b"\n")
            self._held = [lines.pop()]
            for line in lines:
                yield from self._take(line.removesuffix(b"\r"))
            self._size = len(self._held[0]) + sum(map(len, self._data))
        else:
            self._held.append(data)
        self._between = not (self._size or self._name)
        if self._size > MAX_EVENT:
            raise UpstreamGarbage(f"{self._title} sent an event of more than {MAX_EVENT >> 20} MiB.")

    def _take(self, line: bytes) -> Iterable[Chunk]:
        if not line:
            data, self._data = b"\n".join(self._data), []
            name, self._name = self._name, b""
            return self._event(data, name) if data.strip() else ()
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.strip()
        elif field == b"error":
            raise stream_error(value.strip(), self._title)
        elif field not in _FIELDS:
            raise UpstreamGarbage(f"{self._title} sent something that is no event stream: {line[:80]!r}.")
        return ()

    def _event(self, data: bytes, name: bytes = b"") -> Iterable[Chunk]:
        self._opening = False
        if self._done:
            return ()
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            word = data.strip()
            if word in {b"[DONE]", b"null"}:  # llama.cpp opens the stream of several prompts with a null
                self._done = word == b"[DONE]"
                return ()
            if name == b"error":
                raise stream_error(data, self._title) from None
            raise UpstreamGarbage(f"{self._title} sent an event that cannot be read: {error}.") from None
        choices = event.choices
        if choices is not None and len(choices) == 1 and event.usage is None:
            choice = choices[0]
            delta = choice.delta
            if (
                delta is not None
                and choice.finish_reason is None
                and choice.logprobs is None
                and choice.index == 0
                and delta.content.__class__ is str
                and delta.tool_calls is None
                and delta.function_call is None
                and delta.reasoning_content is None
                and delta.reasoning is None
                and delta.refusal is None
            ):
                return (Chunk(delta.content),) if delta.content else ()
        return self._slowly(event, data, name)

    def _slowly(self, event: AnswerObject, data: bytes, name: bytes) -> Iterable[Chunk]:
        told = name == b"error" or event.error != NULL
        if told or (event.choices is None and event.usage is None and sentence(data)):
            raise stream_error(data, self._title)
        found = tuple(chunks(event, self._title))
        for choice in event.choices or ():
            self._choices = max(self._choices, choice.index + 1)
            if choice.finish_reason is not None:
                self._finished.add(choice.index)
        return found
