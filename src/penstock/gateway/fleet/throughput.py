"""What a model on a server has been seen to take: how fast it loads, reads a prompt, and answers. Pure arithmetic.

Before anything has been seen, guesses stand in: from the model's size, and from how much slower or faster than guessed
this server's other models turned out to be.
"""

from dataclasses import dataclass

RECENT = 0.3
"""The weight of the newest sample; the older ones share the rest."""

LOAD_BASE = 1.0
LOAD_BYTES_PER_SECOND = 1.5e9
"""A fast disk and the graphics card's bus; a slow disk is learnt from the first load."""
PREFILL = 12_000.0
DECODE = 500.0
"""Tokens per second of a model of 1 billion parameters on one good graphics card; both fall with the size."""
ANSWER_TOKENS = 250.0
MOST_TOKENS = 4000.0
LEAST_RATE, MOST_RATE = 0.01, 1e5
"""Tokens a second beyond which somebody's clock is wrong."""
SLOWEST, FASTEST = 0.02, 20.0
_ENOUGH_PROMPT = 256  # tokens from which on a prompt's reading can be told from the rest
_ENOUGH_TOKENS = 8


@dataclass(slots=True, eq=False)
class Pace:
    """How fast a server is in comparison with the guess: 1 as guessed, below 1 slower; learnt from all its models."""

    factor: float = 1.0
    seen: bool = False

    def tell(self, ratio: float) -> None:
        """A model was so many times as fast as guessed."""
        ratio = min(FASTEST, max(SLOWEST, ratio))
        self.factor = ratio if not self.seen else self.factor + RECENT * (ratio - self.factor)
        self.seen = True


class Rates:
    """Of one model on one server. `per_token` is seconds to read a token of prompt, `first` seconds to the first token
    beside that, `answer` seconds for an answer of ANSWER_TOKENS (how long answers are is no server's doing), `service`
    seconds for which a usual call holds its slot: sums that are ready for every decision. `tokens` is those of a usual
    answer, `answers` how many were seen.
    """

    __slots__ = (
        "_decode", "_guess_decode", "_guess_load", "_guess_prefill", "_load", "_pace", "_prefill", "answer", "answers",
        "first", "per_token", "service", "tokens",
    )  # fmt: skip

    def __init__(self, pace: Pace, billions: float = 8.0, size: int = 0) -> None:
        self._pace = pace
        self._guess_load = LOAD_BASE + (size or billions * 0.6e9) / LOAD_BYTES_PER_SECOND
        self._guess_prefill = PREFILL / (billions + 0.5)
        self._guess_decode = DECODE / (billions + 2.0)
        self._load = 0.0
        self._prefill = 0.0
        self._decode = 0.0
        self.first = 0.0
        self.tokens = ANSWER_TOKENS
        self.answers = 0
        self.refresh()

    def refresh(self) -> None:
        """Reckon the sums anew. What has never answered is hoped to be quick: else it would never be found out."""
        self.per_token = 1.0 / self.prefill
        decode = self.decode
        self.answer = ANSWER_TOKENS / decode if self.answers else 0.0
        self.service = self.first + self.tokens / decode

    @property
    def load(self) -> float:
        """Seconds to load it."""
        return self._load or self._guess_load

    @property
    def prefill(self) -> float:
        """Tokens of a prompt read in a second."""
        return self._prefill or self._guess_prefill * self._pace.factor

    @property
    def decode(self) -> float:
        """Tokens answered in a second, to one caller."""
        return self._decode or self._guess_decode * self._pace.factor

    def reading(self, prompt: float) -> float:
        """Seconds from the request to the first token of a loaded model with a free slot."""
        return self.first + self.per_token * prompt

    def answering(self, most: int | None = None) -> float:
        """Seconds from the first token to the last; `most` tokens are allowed."""
        return (self.tokens if most is None or most > self.tokens else most) / self.decode

    def saw_load(self, seconds: float) -> None:
        """It was loaded for a call."""
        self._load = _mean(self._load, seconds)

    def saw_prompt(self, tokens: float, seconds: float) -> None:
        """A prompt was read with nothing else to wait for."""
        if not self.answers:
            self.first = seconds / 2
        if tokens >= _ENOUGH_PROMPT:
            reading = max(1e-3, seconds - min(self.first, seconds / 2))
            self._prefill = _mean(self._prefill, max(LEAST_RATE, tokens / reading))
        else:
            self.first += RECENT * (max(0.0, seconds - tokens * self.per_token) - self.first)
        self.refresh()

    def saw_answer(self, tokens: float, seconds: float) -> None:
        """So many tokens came in that time after the first."""
        self.answers += 1
        self.tokens += (min(max(tokens, 1.0), MOST_TOKENS) - self.tokens) * 0.1
        if tokens >= _ENOUGH_TOKENS and seconds > 0:
            rate = min(MOST_RATE, max(LEAST_RATE, tokens / seconds))
            self._decode = _mean(self._decode, rate)
            self._pace.tell(rate / self._guess_decode)
        self.refresh()


def _mean(before: float, sample: float) -> float:
    return sample if not before else before + RECENT * (sample - before)
