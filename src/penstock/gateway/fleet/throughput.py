"""What a model on a server has been seen to take: how fast it loads, reads a prompt, and answers. Pure arithmetic.

Before anything has been seen, guesses stand in: from the model's size, and from how much slower or faster than guessed
this server's other models turned out to be.
"""

from dataclasses import dataclass

NEWEST_WEIGHT = 0.3
"""The weight of the newest sample; the older ones share the rest."""

LOAD_BASE_SECONDS = 1.0
LOAD_BYTES_PER_SECOND = 1.5e9
"""A fast disk and the graphics card's bus; a slow disk is learnt from the first load."""
PREFILL_RATE_1B = 12_000.0
DECODE_RATE_1B = 500.0
"""Tokens per second of a model of 1 billion parameters on one good graphics card; both fall with the size."""
ANSWER_TOKENS = 250.0
MAX_ANSWER_TOKENS = 4000.0
MIN_RATE, MAX_RATE = 0.01, 1e5
"""Tokens a second beyond which somebody's clock is wrong."""
MIN_SPEED_FACTOR, MAX_SPEED_FACTOR = 0.02, 20.0
_MIN_PROMPT_TOKENS = 256  # tokens from which on a prompt's reading can be told from the rest
_MIN_ANSWER_TOKENS = 8


@dataclass(slots=True, eq=False)
class SpeedFactor:
    """How fast a server is in comparison with the guess: 1 as guessed, below 1 slower; learnt from all its models."""

    factor: float = 1.0
    is_known: bool = False

    def observe_ratio(self, ratio: float) -> None:
        """A model was so many times as fast as guessed."""
        ratio = min(MAX_SPEED_FACTOR, max(MIN_SPEED_FACTOR, ratio))
        self.factor = ratio if not self.is_known else self.factor + NEWEST_WEIGHT * (ratio - self.factor)
        self.is_known = True


class ModelThroughput:
    """Estimated speed of one model on one server.

    Some values are computed in advance, because every decision reads them: `seconds_per_prompt_token` for prefill,
    `first_token_overhead` seconds to the first token in addition to that, `answer_seconds` for an answer of
    ANSWER_TOKENS (a fixed length, because the length of an answer does not depend on the server), and
    `service_seconds` for which a usual call occupies its slot. `usual_answer_tokens` is the mean length of its answers,
    `answers_seen` their number.
    """

    __slots__ = (
        "_guessed_decode",
        "_guessed_load",
        "_guessed_prefill",
        "_observed_decode",
        "_observed_load",
        "_observed_prefill",
        "_speed_factor",
        "answer_seconds",
        "answers_seen",
        "first_token_overhead",
        "seconds_per_prompt_token",
        "service_seconds",
        "usual_answer_tokens",
    )  # fmt: skip

    def __init__(self, speed_factor: SpeedFactor, billions: float = 8.0, size: int = 0) -> None:
        self._speed_factor = speed_factor
        self._guessed_load = LOAD_BASE_SECONDS + (size or billions * 0.6e9) / LOAD_BYTES_PER_SECOND
        self._guessed_prefill = PREFILL_RATE_1B / (billions + 0.5)
        self._guessed_decode = DECODE_RATE_1B / (billions + 2.0)
        self._observed_load = 0.0
        self._observed_prefill = 0.0
        self._observed_decode = 0.0
        self.first_token_overhead = 0.0
        self.usual_answer_tokens = ANSWER_TOKENS
        self.answers_seen = 0
        self.update_estimates()

    def update_estimates(self) -> None:
        """Reckon the sums anew. What has never answered is hoped to be quick: else it would never be found out."""
        self.seconds_per_prompt_token = 1.0 / self.prefill_rate
        decode = self.decode_rate
        self.answer_seconds = ANSWER_TOKENS / decode if self.answers_seen else 0.0
        self.service_seconds = self.first_token_overhead + self.usual_answer_tokens / decode

    @property
    def load_seconds(self) -> float:
        """Seconds to load it."""
        return self._observed_load or self._guessed_load

    @property
    def prefill_rate(self) -> float:
        """Tokens of a prompt read in a second."""
        return self._observed_prefill or self._guessed_prefill * self._speed_factor.factor

    @property
    def decode_rate(self) -> float:
        """Tokens answered in a second, to one caller."""
        return self._observed_decode or self._guessed_decode * self._speed_factor.factor

    def estimate_first_token(self, prompt_tokens: float) -> float:
        """Seconds from the request to the first token of a loaded model with a free slot."""
        return self.first_token_overhead + self.seconds_per_prompt_token * prompt_tokens

    def estimate_generation(self, max_tokens: int | None = None) -> float:
        """Seconds from the first token to the last; `max_tokens` tokens are allowed."""
        return (
            self.usual_answer_tokens if max_tokens is None or max_tokens > self.usual_answer_tokens else max_tokens
        ) / self.decode_rate

    def observe_load(self, seconds: float) -> None:
        """It was loaded for a call."""
        self._observed_load = _update_average(self._observed_load, seconds)

    def observe_prefill(self, tokens: float, seconds: float) -> None:
        """A prompt was read with nothing else to wait for."""
        if not self.answers_seen:
            self.first_token_overhead = seconds / 2
        if tokens >= _MIN_PROMPT_TOKENS:
            reading = max(1e-3, seconds - min(self.first_token_overhead, seconds / 2))
            self._observed_prefill = _update_average(self._observed_prefill, max(MIN_RATE, tokens / reading))
        else:
            self.first_token_overhead += NEWEST_WEIGHT * (
                max(0.0, seconds - tokens * self.seconds_per_prompt_token) - self.first_token_overhead
            )
        self.update_estimates()

    def observe_answer(self, tokens: float, seconds: float) -> None:
        """So many tokens came in that time after the first."""
        self.answers_seen += 1
        self.usual_answer_tokens += (min(max(tokens, 1.0), MAX_ANSWER_TOKENS) - self.usual_answer_tokens) * 0.1
        if tokens >= _MIN_ANSWER_TOKENS and seconds > 0:
            rate = min(MAX_RATE, max(MIN_RATE, tokens / seconds))
            self._observed_decode = _update_average(self._observed_decode, rate)
            self._speed_factor.observe_ratio(rate / self._guessed_decode)
        self.update_estimates()


def _update_average(before: float, sample: float) -> float:
    return sample if not before else before + NEWEST_WEIGHT * (sample - before)
