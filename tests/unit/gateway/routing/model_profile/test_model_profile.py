"""Strengths of models, and the best one for a task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.complexity import Level, TaskType
from penstock.domain.fleet import Model
from penstock.gateway.routing.model_profile import ModelProfile, compute_fit, profile_model
from penstock.gateway.routing.policy import Preferences

REMOTE = ("llama3.3:70b", "gemma3:12b", "qwen2.5-coder:14b", "qwen3:14b")
LOCAL = ("gemma3:1b", "qwen2.5:1.5b", "phi3:3b")
COUNTED = {"llama3.3:70b": "70.6B", "gemma3:12b": "12.2B", "qwen2.5-coder:14b": "14.8B", "qwen3:14b": "14.8B"} | {
    "gemma3:1b": "999.89M",
    "qwen2.5:1.5b": "1.5B",
    "phi3:3b": "3.8B",
}


def profile_name(name: str, **more: object) -> ModelProfile:
    return profile_model(Model(name, **more))  # type: ignore[arg-type]


def rank_models(models: tuple[str, ...], level: Level, task: TaskType, counted: bool = False) -> list[str]:
    def score(name: str) -> float:
        return compute_fit(profile_model(Model(name, parameters=COUNTED[name] if counted else "")), level, task)

    return sorted(models, key=score, reverse=True)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize(
    ("models", "level", "task", "best"),
    [
        (REMOTE + LOCAL, Level.TRIVIAL, TaskType.CHAT, "gemma3:1b"),
        (LOCAL, Level.TRIVIAL, TaskType.CHAT, "gemma3:1b"),
        (REMOTE + LOCAL, Level.MODERATE, TaskType.EXPLANATION, "gemma3:12b"),
        (REMOTE + LOCAL, Level.MODERATE, TaskType.WRITING, "gemma3:12b"),
        (REMOTE + LOCAL, Level.COMPLEX, TaskType.CODE, "qwen2.5-coder:14b"),
        (REMOTE + LOCAL, Level.MODERATE, TaskType.CODE, "qwen2.5-coder:14b"),
        (REMOTE + LOCAL, Level.COMPLEX, TaskType.MATH_REASONING, "llama3.3:70b"),
        (REMOTE + LOCAL, Level.COMPLEX, TaskType.EXPLANATION, "llama3.3:70b"),
        (LOCAL, Level.COMPLEX, TaskType.CODE, "qwen2.5:1.5b"),
        (REMOTE + LOCAL, Level.MODERATE, TaskType.MATH_REASONING, "qwen3:14b"),
    ],
)
def test_models_of_two_servers_fit_as_expected(models, level, task, best, counted):
    assert rank_models(models, level, task, counted)[0] == best


@pytest.mark.parametrize(
    ("name", "billions", "level", "strengths"),
    [
        ("gemma3:1b", 1.0, Level.TRIVIAL, "chat"),
        ("qwen2.5:0.5b", 0.5, Level.TRIVIAL, "chat tools"),
        ("smollm:135m", 0.135, Level.TRIVIAL, "chat"),
        ("tinyllama", 1.1, Level.TRIVIAL, "chat"),
        ("tinyllama:latest", 1.1, Level.TRIVIAL, "chat"),
        ("llama3.2", 3.2, Level.SIMPLE, "chat tools"),
        ("llama3.2:1b", 1.0, Level.TRIVIAL, "chat tools"),
        ("phi3:3b", 3.0, Level.SIMPLE, "chat"),
        ("phi3", 3.8, Level.SIMPLE, "chat"),
        ("phi4-mini", 3.8, Level.SIMPLE, "chat tools"),
        ("gemma3n:e4b", 5.51, Level.MODERATE, "chat"),
        ("llama3.1:8b", 8.0, Level.MODERATE, "chat tools"),
        ("llama3", 8.0, Level.MODERATE, "chat"),
        ("gemma3:12b", 12.0, Level.MODERATE, "chat vision"),
        ("gemma2:27b", 27.0, Level.MODERATE, "chat"),
        ("phi4", 14.7, Level.MODERATE, "chat"),
        ("mistral", 7.2, Level.MODERATE, "chat tools"),
        ("mistral:7b", 7.0, Level.MODERATE, "chat tools"),
        ("qwen3:32b", 32.0, Level.MODERATE, "chat tools reasoning"),
        ("phi4-mini-reasoning", 3.8, Level.SIMPLE, "chat reasoning"),
        ("mistral-nemo", 12.2, Level.MODERATE, "chat tools"),
        ("mistral-small3.2:24b", 24.0, Level.MODERATE, "chat tools vision"),
        ("ministral-3:8b", 8.0, Level.MODERATE, "chat tools vision"),
        ("qwen3:14b", 14.0, Level.MODERATE, "chat tools reasoning"),
        ("command-r", 32.3, Level.MODERATE, "chat tools"),
        ("granite3.3:8b", 8.0, Level.MODERATE, "chat tools"),
        ("command-r-plus", 104.0, Level.COMPLEX, "chat tools"),
        ("llama3.3:70b", 70.0, Level.COMPLEX, "chat tools"),
        ("llama3.3", 70.6, Level.COMPLEX, "chat tools"),
        ("qwen2.5:72b-instruct-q4_K_M", 72.0, Level.COMPLEX, "chat tools"),
        ("mistral-large", 123.0, Level.COMPLEX, "chat tools"),
        ("qwen2.5-coder:14b", 14.0, Level.COMPLEX, "chat coder tools"),
        ("qwen2.5-coder:7b", 7.0, Level.MODERATE, "chat coder tools"),
        ("qwen2.5-coder:1.5b-base", 1.5, Level.SIMPLE, "chat coder tools"),
        ("devstral", 23.6, Level.COMPLEX, "chat coder tools"),
        ("codellama:7b", 7.0, Level.MODERATE, "chat coder"),
        ("starcoder2:3b", 3.0, Level.MODERATE, "chat coder"),
        ("deepseek-r1:7b", 7.0, Level.MODERATE, "chat reasoning"),
        ("deepseek-r1:14b", 14.0, Level.MODERATE, "chat reasoning"),
        ("qwq", 32.8, Level.MODERATE, "chat reasoning tools"),
        ("magistral:24b", 24.0, Level.MODERATE, "chat reasoning tools"),
        ("llava:7b", 7.0, Level.SIMPLE, "chat vision"),
        ("minicpm-v:8b", 8.0, Level.MODERATE, "chat vision"),
        ("moondream", 1.4, Level.TRIVIAL, "chat vision"),
        ("qwen2.5vl:7b", 7.0, Level.MODERATE, "chat vision"),
        ("llama3.2-vision:11b", 11.0, Level.MODERATE, "chat vision"),
        ("nomic-embed-text", 0.3, Level.TRIVIAL, "embedding"),
        ("mxbai-embed-large:335m", 0.335, Level.TRIVIAL, "embedding"),
        ("bge-m3", 0.3, Level.TRIVIAL, "embedding"),
        ("all-minilm:22m", 0.022, Level.TRIVIAL, "embedding"),
        ("snowflake-arctic-embed2", 0.3, Level.TRIVIAL, "embedding"),
        ("qwen3-embedding:8b", 8.0, Level.SIMPLE, "embedding"),
        ("bge-reranker-v2-m3", 0.6, Level.TRIVIAL, ""),
        ("llama-guard3:8b", 8.0, Level.SIMPLE, ""),
        ("ilyagusev/saiga_llama3", 8.0, Level.MODERATE, "chat"),
        ("rscr/vikhr_nemo_12b", 12.0, Level.MODERATE, "chat"),
        ("gigachat-20b-a3b", 7.746, Level.MODERATE, "chat tools"),
        ("yandex/YandexGPT-5-Lite-8B-instruct", 8.0, Level.MODERATE, "chat"),
        ("t-tech/T-lite-it-1.0", 7.6, Level.MODERATE, "chat tools"),
        ("t-tech/T-pro-it-2.0-GGUF", 32.8, Level.MODERATE, "chat tools"),
    ],
)
def test_known_models_need_no_configuration(name, billions, level, strengths):
    found = profile_name(name)

    assert found.billions == pytest.approx(billions, rel=0.01)
    assert (found.level, found.strengths) == (level, frozenset(strengths.split()))
    assert found.is_size_known


@pytest.mark.parametrize(
    ("name", "low", "high", "level"),
    [
        ("qwen3:30b-a3b", 3.3, 30.5, Level.MODERATE),
        ("qwen3:30b", 3.3, 30.5, Level.MODERATE),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", 3.3, 30.5, Level.MODERATE),
        ("qwen3:235b", 22, 235, Level.COMPLEX),
        ("mixtral:8x7b", 12.8, 46.7, Level.MODERATE),
        ("mixtral:8x22b", 39, 146.1, Level.COMPLEX),
        ("gpt-oss:20b", 3.6, 20.9, Level.MODERATE),
        ("openai/gpt-oss-120b", 5.1, 117, Level.COMPLEX),
        ("deepseek-r1:671b", 37, 671, Level.COMPLEX),
        ("deepseek-v3", 37, 671, Level.COMPLEX),
        ("deepseek-coder-v2:16b", 2.4, 16, Level.MODERATE),
        ("qwen3-coder:30b", 3.3, 30.5, Level.COMPLEX),
        ("llama4:scout", 17, 109, Level.COMPLEX),
        ("llama4:maverick", 17, 400, Level.COMPLEX),
        ("llama4:16x17b", 17, 109, Level.COMPLEX),
        ("llama4:128x17b", 17, 400, Level.COMPLEX),
        ("qwen3-coder-next", 3, 80, Level.COMPLEX),
        ("granite3.1-moe:3b", 0.8, 3.3, Level.TRIVIAL),
        ("gemma3n:e2b", 2.0, 5.0, Level.SIMPLE),
    ],
)
def test_a_mixture_of_experts_counts_between_active_and_total(name, low, high, level):
    found = profile_name(name)

    assert low < found.billions < high
    assert found.level is level


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen2.5-Coder-14B-Instruct-AWQ", 14),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", 8),
        ("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", 3),
        ("/models/qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", 7),
        ("Mistral-7B-Instruct-v0.3.Q5_K_M.gguf", 7),
        ("C:\\models\\gemma-2-9b-it-Q8_0.gguf", 9),
        ("mlx-community/Llama-3.2-1B-Instruct-4bit", 1),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", 32),
        ("microsoft/Phi-3-medium-128k-instruct", 14),
        ("deepseek-r1:8b-llama-distill-q4_K_M", 8),
    ],
)
def test_sizes_are_read_from_names_of_files_and_repositories(name, billions):
    assert profile_name(name).billions == pytest.approx(billions)


def test_a_reported_parameter_count_precedes_the_name():
    assert profile_name("phi3:3b", parameters="3.8B").billions == 3.8
    assert profile_name("smollm:135m", parameters="134.52M").billions == pytest.approx(0.13452)
    assert profile_name("assistant", parameters="70.6B", family="llama").level is Level.COMPLEX


def test_without_a_size_in_the_name_the_files_size_counts():
    assert profile_name("my-model", size=4_900_000_000, quantization="Q4_K_M").billions == pytest.approx(8.2, rel=0.05)
    assert profile_name("my-model", size=16_000_000_000, quantization="F16").billions == pytest.approx(8.0)
    assert profile_name("my-model", size=42_500_000_000, format="gguf").level is Level.COMPLEX


def test_an_unknown_model_is_balanced():
    found = profile_name("assistant")

    assert (found.size_class, found.level, found.is_size_known) == ("balanced", Level.MODERATE, False)


def test_size_classes_have_the_names_that_auto_uses():
    words = {name: profile_name(name).size_class for name in ("gemma3:1b", "phi3:3b", "gemma3:12b", "llama3.3:70b")}

    assert words == {"gemma3:1b": "fast", "phi3:3b": "fast", "gemma3:12b": "balanced", "llama3.3:70b": "powerful"}
    assert profile_name("qwen2.5-coder:14b").size_class == "powerful"


def test_reported_capabilities_precede_the_name():
    assert "vision" not in profile_name("gemma3:12b", capabilities=frozenset({"completion"})).strengths
    assert "tools" in profile_name("gemma3:12b", capabilities=frozenset({"completion", "tools"})).strengths
    assert "reasoning" in profile_name("assistant", capabilities=frozenset({"completion", "thinking"})).strengths
    assert profile_name("assistant", capabilities=frozenset({"embedding"})).strengths == {"embedding"}


def test_the_reported_family_is_used_if_the_name_has_none():
    assert "coder" not in profile_name("assistant", family="qwen2").strengths
    assert profile_name("assistant", family="nomic-bert").strengths == {"embedding"}
    assert profile_name("assistant:8b", family="qwen3").general > profile_name("assistant:8b", family="qwen2").general


def test_heavy_quantization_counts_as_a_smaller_model():
    unquantized, four, two = (profile_name(f"llama3.1:70b-instruct-{q}") for q in ("fp16", "q4_K_M", "q2_K"))

    assert unquantized.general == four.general > two.general
    assert two.billions == unquantized.billions


@pytest.mark.parametrize("task", list(TaskType))
@pytest.mark.parametrize("level", list(Level))
def test_embedding_models_are_never_for_chat(level, task):
    assert compute_fit(profile_name("qwen3-embedding:8b"), level, task) == 0.0
    assert compute_fit(profile_name("bge-reranker-v2-m3"), level, task) == 0.0


@pytest.mark.parametrize("task", [task for task in TaskType if task is not TaskType.CODE])
def test_a_coder_is_only_for_code(task):
    assert compute_fit(profile_name("qwen2.5-coder:14b"), Level.MODERATE, task) < compute_fit(
        profile_name("qwen2.5:14b"), Level.MODERATE, task
    )


def test_reasoning_models_are_preferred_for_mathematics():
    thinker, talker = profile_name("deepseek-r1:14b"), profile_name("qwen2.5:14b")

    assert compute_fit(thinker, Level.COMPLEX, TaskType.MATH_REASONING) > compute_fit(
        talker, Level.COMPLEX, TaskType.MATH_REASONING
    )
    assert compute_fit(thinker, Level.SIMPLE, TaskType.FACTUAL) < compute_fit(talker, Level.SIMPLE, TaskType.FACTUAL)


LEVELS, TASKS = st.sampled_from(list(Level)), st.sampled_from(list(TaskType))
WORDS = "qwen3 llama gemma3 coder 8b 70b a3b 8x7b e4b 999999b 0b 0.0b q4_K_M embed r1 vl base : - / . _ gguf"
PARTS = st.sampled_from(WORDS.split())
NAMES = st.one_of(
    st.text(max_size=40), st.lists(PARTS, max_size=8).map("".join), st.lists(PARTS, max_size=6).map("-".join)
)
MODELS = st.builds(
    Model,
    NAMES,
    size=st.integers(-5, 10**15),
    parameters=st.one_of(st.just(""), st.text(max_size=8), st.from_regex(r"\A[0-9]{1,6}(\.[0-9]{1,2})?[KMBTkmbt]\Z")),
    quantization=st.one_of(st.sampled_from(["", "Q4_K_M", "F16", "unknown", "Q2_K", "MXFP4"]), st.text(max_size=6)),
    family=st.one_of(st.sampled_from(["", "llama", "qwen2", "bert", "gptoss"]), st.text(max_size=8)),
    format=st.sampled_from(["", "gguf", "safetensors"]),
    capabilities=st.frozensets(st.sampled_from(["completion", "tools", "vision", "embedding", "thinking", "agent"])),
)


@given(MODELS, LEVELS, TASKS)
def test_any_model_has_a_profile_and_a_fit(model, level, task):
    found = profile_model(model)

    assert found == profile_model(model)
    assert 0 < found.billions < float("inf")
    assert found.size_class in {"fast", "balanced", "powerful"}
    assert found.strengths <= {"coder", "reasoning", "vision", "embedding", "tools", "chat"}
    assert 0.0 <= compute_fit(found, level, task) <= 1.0
    assert (compute_fit(found, level, task) > 0) == ("chat" in found.strengths)


FAMILIES = st.sampled_from(
    ["llama3.1", "qwen2.5", "qwen3", "gemma3", "qwen2.5-coder", "deepseek-r1", "mistral", "mine"]
)


@given(FAMILIES, st.floats(0.1, 500), st.floats(0.1, 500), LEVELS, TASKS)
def test_within_a_family_bigger_models_are_better_up_to_the_ideal_size(family, one, other, level, task):
    small, big = (profile_name(family, parameters=f"{size:.3f}B") for size in sorted((one, other)))
    lesser, greater = compute_fit(small, level, task), compute_fit(big, level, task)

    assert small.level <= big.level
    if greater < lesser:  # only where the small one is enough, and never by much
        assert greater > lesser - 0.5
        assert compute_fit(small, level, task) > 0.5
    needed = max(Level(step) for step in range(level + 1))
    if big.effective_billions(task) <= {0: 0.9, 1: 2.3, 2: 6.0, 3: 60.0}[needed]:
        assert greater >= lesser


@given(MODELS, TASKS)
def test_a_model_too_small_for_a_level_is_worse_for_the_next(model, task):
    found = profile_model(model)
    fits = [compute_fit(found, level, task) for level in Level]
    best = fits.index(max(fits))

    assert all(later <= earlier + 1e-9 for earlier, later in zip(fits[best:], fits[best + 1 :], strict=False))


@given(st.permutations(REMOTE + LOCAL), LEVELS, TASKS)
def test_the_order_of_models_does_not_matter(models, level, task):
    scores = {name: compute_fit(profile_name(name), level, task) for name in models}

    assert scores == {name: compute_fit(profile_name(name), level, task) for name in REMOTE + LOCAL}


def test_preferred_models_come_first_in_their_order():
    preferences = Preferences.from_names(
        {"moderate": ("qwen3:14b", "phi3"), "trivial": ()}, {"code": ("llama3.3:70b",)}
    )
    score = {
        name: preferences.compute_fit(Model(name), Level.MODERATE, TaskType.EXPLANATION)
        for name in ("gemma3:12b", "phi3:latest", "qwen3:14b", "gemma3:1b")
    }

    assert sorted(score, key=score.__getitem__, reverse=True) == ["qwen3:14b", "phi3:latest", "gemma3:12b", "gemma3:1b"]
    assert preferences.find_rank(Model("llama3.3:70b"), Level.MODERATE, TaskType.CODE) == 0
    assert preferences.find_rank(Model("qwen3:14b"), Level.MODERATE, TaskType.CODE) is None
    assert preferences.compute_fit(Model("gemma3:1b"), Level.TRIVIAL, TaskType.CHAT) == compute_fit(
        profile_name("gemma3:1b"), Level.TRIVIAL, TaskType.CHAT
    )


@pytest.mark.parametrize(("levels", "types"), [({"hard": ("m",)}, {}), ({}, {"poetry": ("m",)})])
def test_an_unknown_level_or_task_type_is_rejected(levels, types):
    with pytest.raises((KeyError, ValueError)):
        Preferences.from_names(levels, types)
