"""Throughput of one model on one server: how fast it loads, reads a prompt and generates. Pure arithmetic.

Until a value has been observed it is guessed: from the model's size, and from how much faster or slower than the guess
the other models on this server turned out to be.
"""

from dataclasses import dataclass

NEWEST_WEIGHT = 0.3
"""Weight of the newest sample in an exponential moving average."""

ASSUMED_BILLIONS = 8.0
LOAD_BASE_SECONDS = 1.0
LOAD_BYTES_PER_SECOND = 1.5e9
"""Rate of a fast disk and the graphics card's bus. A slower disk is learned from the first load."""
BYTES_PER_BILLION = 0.6e9
"""Usual file size for each billion of parameters: 4-bit weights."""
PREFILL_RATE_1B = 12_000.0
DECODE_RATE_1B = 500.0
"""Tokens per second of a model of 1 billion parameters on one good graphics card; both fall with the size."""
ANSWER_TOKENS = 250.0
MAX_ANSWER_TOKENS = 4000.0
MIN_RATE, MAX_RATE = 0.01, 1e5
"""Plausible tokens per second; beyond them a clock is wrong."""
MIN_SPEED_FACTOR, MAX_SPEED_FACTOR = 0.02, 20.0
_MIN_PROMPT_TOKENS = 256  # shorter prompts do not show the prefill rate
_MIN_ANSWER_TOKENS = 8
_MIN_SECONDS = 1e-3


@dataclass(slots=True, eq=False)
class SpeedFactor:
    """Speed of a server relative to the guess, over all its models: 1 as guessed, below 1 slower."""

    factor: float = 1.0
    is_known: bool = False

    def observe_ratio(self, ratio: float) -> None:
        """Learn from a model that was `ratio` times as fast as guessed."""
        ratio = min(MAX_SPEED_FACTOR, max(MIN_SPEED_FACTOR, ratio))
        self.factor = _update_average(self.factor, ratio) if self.is_known else ratio
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
        "_guessed_decode", "_guessed_load", "_guessed_prefill", "_observed_decode", "_observed_load",
        "_observed_prefill", "_speed_factor", "answer_seconds", "answers_seen", "first_token_overhead",
        "seconds_per_prompt_token", "service_seconds", "usual_answer_tokens",
    )  # fmt: skip

    def __init__(self, speed_factor: SpeedFactor, billions: float = ASSUMED_BILLIONS, size: int = 0) -> None:
        """Guess from the model's parameters in billions and its file's size in bytes, 0 if that is not known."""
        self._speed_factor = speed_factor
        self._guessed_load = LOAD_BASE_SECONDS + (size or billions * BYTES_PER_BILLION) / LOAD_BYTES_PER_SECOND
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
        """Recompute the values that are computed in advance.

        A model that has not answered yet gets an optimistic `answer_seconds` of 0, so that it is tried at all.
        """
        self.seconds_per_prompt_token = 1.0 / self.prefill_rate
        decode_rate = self.decode_rate
        self.answer_seconds = ANSWER_TOKENS / decode_rate if self.answers_seen else 0.0
        self.service_seconds = self.first_token_overhead + self.usual_answer_tokens / decode_rate

    def follow_speed_factor(self) -> None:
        """Recompute the values that are still guessed, after the speed factor has changed."""
        if not self._observed_prefill or not self._observed_decode:
            self.update_estimates()

    @property
    def load_seconds(self) -> float:
        """Seconds to load the model into memory."""
        return self._observed_load or self._guessed_load

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens read per second."""
        return self._observed_prefill or self._guessed_prefill * self._speed_factor.factor

    @property
    def decode_rate(self) -> float:
        """Tokens generated per second for one caller."""
        return self._observed_decode or self._guessed_decode * self._speed_factor.factor

    def estimate_first_token(self, prompt_tokens: float) -> float:
        """Return the seconds from the request to the first token, for a loaded model with a free slot."""
        return self.first_token_overhead + self.seconds_per_prompt_token * prompt_tokens

    def estimate_generation(self, max_tokens: int | None = None) -> float:
        """Return the seconds from the first token to the last of an answer of at most `max_tokens`."""
        tokens = self.usual_answer_tokens
        if max_tokens is not None and max_tokens <= tokens:
            tokens = max_tokens
        return tokens / self.decode_rate

    def observe_load(self, seconds: float) -> None:
        """Learn from a load for a call."""
        self._observed_load = _update_average(self._observed_load, seconds)

    def observe_prefill(self, tokens: float, seconds: float) -> None:
        """Learn from a prompt that was read by a loaded model, without waiting for a slot."""
        if not self.answers_seen:
            self.first_token_overhead = seconds / 2
        if tokens >= _MIN_PROMPT_TOKENS:
            prefill_seconds = max(_MIN_SECONDS, seconds - min(self.first_token_overhead, seconds / 2))
            self._observed_prefill = _update_average(self._observed_prefill, max(MIN_RATE, tokens / prefill_seconds))
        else:
            overhead = max(0.0, seconds - tokens * self.seconds_per_prompt_token)
            self.first_token_overhead += NEWEST_WEIGHT * (overhead - self.first_token_overhead)
        self.update_estimates()

    def observe_answer(self, tokens: float, seconds: float) -> None:
        """Learn from an answer; `seconds` is the time from its first token to its last."""
        self.answers_seen += 1
        self.usual_answer_tokens += (min(max(tokens, 1.0), MAX_ANSWER_TOKENS) - self.usual_answer_tokens) * 0.1
        if tokens >= _MIN_ANSWER_TOKENS and seconds > 0:
            rate = min(MAX_RATE, max(MIN_RATE, tokens / seconds))
            self._observed_decode = _update_average(self._observed_decode, rate)
            self._speed_factor.observe_ratio(rate / self._guessed_decode)
        self.update_estimates()


def _update_average(average: float, sample: float) -> float:
    """Return the moving average after a sample; the first sample replaces an average of 0."""
    return sample if not average else average + NEWEST_WEIGHT * (sample - average)
