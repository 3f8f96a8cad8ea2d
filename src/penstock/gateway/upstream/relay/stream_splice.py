"""Junction of an interrupted text and its continuation."""

_MIN_REPEAT = 64
"""Characters of a response's beginning that do not repeat by chance: a server that sends them has started anew."""


class StreamSplice:
    """Filter for a continuation, so that nothing is doubled and nothing is lost.

    Servers get the sent text without the white space at its end, since chat templates trim it, and send that white
    space again; it is dropped here. So is the complete beginning, when a server sends it once more.
    """

    __slots__ = ("_beginning", "_held_text", "_space")

    def __init__(self, sent_text: str) -> None:
        self._beginning = sent_text.rstrip()
        self._space = sent_text[len(self._beginning) :]
        self._held_text = ""
        if len(self._beginning) < _MIN_REPEAT or _is_repetitive(self._beginning):
            self._beginning = ""

    def add_text(self, text: str) -> str:
        """Return what is new in the next piece of the continuation."""
        if not self._beginning and not self._space:
            return text
        if self._beginning:
            text = self._held_text + text
            if text != self._beginning and self._beginning.startswith(text):
                self._held_text = text
                return ""
            text = text.removeprefix(self._beginning)
            self._beginning = self._held_text = ""
        while self._space and text:
            if text[0] != self._space[0]:
                self._space = ""
                break
            text, self._space = text[1:], self._space[1:]
        return text

    def flush(self) -> str:
        """Return the text that was held back, when the continuation ends."""
        held_text, self._held_text, self._beginning = self._held_text, "", ""
        return self.add_text(held_text)


def _is_repetitive(text: str) -> bool:
    """Return whether a text is one part repeated, so that its beginning may well come again."""
    return text in (text + text)[1:-1] or any(text.endswith(text[:size]) for size in (16, 32))
