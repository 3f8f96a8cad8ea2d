"""Families of models that people run, with their quality: one row a family; the first that matches counts.

`quality` is the value of a billion of its parameters, in billions of a general model of 2024 (Llama 3.1, Qwen 2.5):
newer generations know more at the same size. `code` and `math` are additional factors for those fields. The figures are
rounded from the families' own reports (MMLU, HumanEval, MATH at each size); they serve to order models only.
"""

import re
from dataclasses import dataclass, field

CODER = 5.0
"""Factor for code: a coder writes code like a general model five times its size, 14B like 70B."""

REASONER = 3.0
"""Factor for mathematics of a model that always reasons before it answers."""
HYBRID = 2.0
"""The same for a model that can reason."""


@dataclass(frozen=True, slots=True)
class Family:
    """One row. `billions` is assumed if a name has no size; `active` are (total, active) billions of its mixtures."""

    name: re.Pattern[str]
    quality: float = 0.8
    billions: float = 0.0
    code: float = 1.0
    math: float = 1.0
    strengths: frozenset[str] = frozenset({"chat"})
    active: tuple[tuple[float, float], ...] = field(default=())

    def find_active(self, total: float) -> float:
        """Return the active billions of the mixture of that size (within 3 %), 0.0 for a dense model."""
        return next((active for size, active in self.active if abs(total - size) <= size * 0.03), 0.0)


def _row(
    name: str,
    quality: float = 0.8,
    billions: float = 0.0,
    strengths: str = "",
    code: float = 1.0,
    math: float = 1.0,
    active: tuple[tuple[float, float], ...] = (),
) -> Family:
    """Make a row; `strengths` are separated by spaces. `silent` is for models that do not chat."""
    words = frozenset(strengths.split()) | {"chat"}
    if "coder" in words:
        code = CODER
    if "reasoning" in words and math == 1.0:
        math = REASONER
    if words & {"embedding", "silent"}:
        words &= {"embedding"}
    return Family(re.compile(name), quality, billions, code=code, math=math, strengths=words, active=active)


_DEEPSEEK = ((671.0, 37.0), (685.0, 37.0), (236.0, 21.0), (16.0, 2.4))
_QWEN3 = ((30.5, 3.3), (235.0, 22.0), (480.0, 35.0), (80.0, 3.0), (35.0, 3.0), (122.0, 10.0), (397.0, 17.0))
_GPT_OSS = ((20.9, 3.6), (20.0, 3.6), (117.0, 5.1), (120.0, 5.1))
_PAID = "tools vision"
_GLM = ((355.0, 32.0), (106.0, 12.0), (110.0, 12.0), (30.0, 3.0))

FAMILIES: tuple[Family, ...] = (
    # models that do not chat
    _row(r"rerank|whisper|parakeet|kokoro|tts|flux|sdxl", 0.5, 0.6, "silent"),
    _row(r"llama-?guard|shieldgemma|guardian|wildguard|reward", 0.5, 8.0, "silent"),
    _row(r"embed|enbed|minilm|mxbai|paraphrase|frida", 0.5, 0.3, "embedding"),
    _row(r"(?<![a-z])(bge|gte|e5|labse|rubert|sbert|bert)(?![a-z])", 0.5, 0.3, "embedding"),
    # coders
    _row(r"qwen-?3-coder-next", 1.4, 80.0, "coder tools", active=_QWEN3),
    _row(r"qwen-?3(\.\d)?-coder", 1.4, 30.5, "coder tools", active=_QWEN3),
    _row(r"qwen-?2\.5-?coder|codeqwen", 1.0, 7.6, "coder tools"),
    _row(r"qwen-?2-?coder", 0.8, 7.6, "coder"),
    _row(r"devstral", 1.2, 23.6, "coder tools"),
    _row(r"codestral|mamba-codestral", 0.9, 22.2, "coder"),
    _row(r"deepseek-?coder-?v2", 0.9, 15.7, "coder", active=_DEEPSEEK),
    _row(r"deepseek-?coder", 0.6, 6.7, "coder"),
    _row(r"codellama|code-llama|phind|wizardcoder|magicoder|codebooga", 0.3, 7.0, "coder"),
    _row(r"starcoder-?2|stable-?code|codegemma|granite-?code|opencoder|yi-coder", 0.5, 7.0, "coder"),
    _row(r"starcoder|santacoder|codegen|sqlcoder|duckdb-nsql", 0.3, 7.0, "coder"),
    # reasoning models
    _row(r"deepseek-?r1.*(1\.5b|7b|14b|32b|8b|70b)|deepseek-?r1-distill", 0.9, 7.6, "reasoning"),
    _row(r"deepseek-?r1", 1.2, 671.0, "reasoning", code=1.5, active=_DEEPSEEK),
    _row(r"qwq|qvq", 1.2, 32.8, "reasoning tools", code=2.0),
    _row(r"magistral", 1.1, 23.6, "reasoning tools"),
    _row(r"gpt-?oss", 2.5, 20.9, "reasoning tools", code=1.5, active=_GPT_OSS),
    _row(r"phi-?4-?mini-?(flash-?)?reasoning", 1.0, 3.8, "reasoning"),
    _row(r"phi-?4-?reasoning", 1.1, 14.7, "reasoning"),
    _row(r"marco-o1|openthinker|deepscaler|exaone-?deep|cogito|acereason|sky-t1|smallthinker", 0.9, 7.6, "reasoning"),
    _row(r"mathstral|(qwen-?2(\.5)?|deepseek)-?math|wizard-?math|numina", 0.7, 7.0, "reasoning"),
    # vision models
    _row(r"qwen-?3(\.\d)?-?vl", 1.2, 8.8, "vision tools", code=1.5, active=_QWEN3),
    _row(r"qwen-?2(\.5)?-?(vl|omni)", 0.9, 8.3, "vision", code=1.5),
    _row(r"moondream", 0.3, 1.4, "vision"),
    _row(r"llava-?phi|bakllava|llava|vila(?![a-z])|cogvlm", 0.5, 7.0, "vision"),
    _row(r"minicpm-?(v|o)", 0.8, 8.1, "vision"),
    _row(r"llama-?3\.2-?(11b|90b|vision)", 0.9, 10.7, "vision"),
    _row(r"internvl|smolvlm|paligemma|florence|phi-?3(\.5)?-vision|granite-?(\d\.\d-?)?vision", 0.7, 8.0, "vision"),
    # general models, by maker
    _row(r"tiny-?llama|tinydolphin|tiny-?vicuna", 0.5, 1.1),
    _row(r"smollm-?3", 1.1, 3.1, "tools", math=HYBRID),
    _row(r"smollm-?2", 0.8, 1.7),
    _row(r"smollm", 0.5, 1.7),
    _row(r"gemma-?4", 1.5, 8.0, "vision tools", active=((26.0, 4.0),)),
    _row(r"gemma-?3n", 1.15, 6.9, active=((6.9, 4.0), (4.5, 2.0))),
    _row(r"gemma-?3-?:?-?(270m|1b)", 1.2, 1.0),
    _row(r"gemma-?3|medgemma|translategemma", 1.2, 4.3, "vision"),
    _row(r"gemma-?2", 1.0, 9.2),
    _row(r"gemma", 0.6, 8.5),
    _row(r"t-?lite", 1.0, 7.6, "tools", code=2.0),
    _row(r"t-?pro", 1.1, 32.8, "tools", code=2.0),
    _row(r"gigachat", 0.9, 20.0, "tools", active=((20.0, 3.3), (10.0, 1.8), (702.0, 36.0))),
    _row(r"yandexgpt|yagpt|alice", 0.9, 8.0),
    _row(r"qvikhr|vikhr.*qwen|ruadapt.*qwen|saiga.*qwen|avibe", 1.0, 7.6, code=1.8),
    _row(r"vikhr|saiga.*(nemo|12b)", 0.9, 12.2),
    _row(r"saiga|ruadapt|cotype|ruslan|rugpt", 0.8, 8.0),
    _row(r"qwen-?3\.[5-9]|qwen-?[4-9]", 1.5, 9.0, "reasoning tools vision", code=2.2, math=HYBRID, active=_QWEN3),
    _row(r"qwen-?3-?next", 1.5, 80.0, "tools", code=2.2, active=_QWEN3),
    _row(r"qwen-?3", 1.3, 8.2, "reasoning tools", code=2.2, math=HYBRID, active=_QWEN3),
    _row(r"qwen-?2[.-]5", 1.0, 7.6, "tools", code=2.2, math=1.5),
    _row(r"qwen-?2", 0.8, 7.6, "tools", code=1.8, math=1.3),
    _row(r"qwen", 0.6, 7.7, active=((14.3, 2.7),)),
    _row(r"llama-?4.*(maverick|128x17b|128e)", 1.2, 400.0, "vision tools", active=((400.0, 17.0),)),
    _row(r"llama-?4", 1.4, 109.0, "vision tools", active=((109.0, 17.0), (400.0, 17.0))),
    _row(r"nemotron-?3|nemotron-?nano", 1.2, 9.0, "reasoning tools", math=HYBRID, active=((31.6, 3.6), (30.0, 3.0))),
    _row(r"nemotron", 1.1, 70.6, "tools"),
    _row(r"llama-?3\.3", 1.2, 70.6, "tools"),
    _row(r"llama-?3\.2", 1.0, 3.2, "tools"),
    _row(r"llama-?3\.1|hermes-?[34]|tulu-?3", 1.0, 8.0, "tools"),
    _row(r"llama-?3(?![\d])|dolphin3", 0.9, 8.0),
    _row(r"llama-?2|vicuna|alpaca|wizardlm|orca|falcon(?!-?3)|stable-?(lm|beluga)|bloom|pythia", 0.5, 7.0),
    _row(r"falcon-?3", 0.9, 7.5),
    _row(r"phi-?4-?mini", 1.0, 3.8, "tools"),
    _row(r"phi-?4", 1.3, 14.7, code=1.2, math=1.5),
    _row(r"phi-?3\.5-?moe", 0.8, 41.9, active=((41.9, 6.6),)),
    _row(r"phi-?3(\.5)?-?:?-?medium", 0.8, 14.0),
    _row(r"phi-?3(\.5)?-?:?-?small", 0.8, 7.4),
    _row(r"phi-?3", 0.8, 3.8),
    _row(r"phi(?![a-z])", 0.5, 2.7),
    _row(r"mixtral", 0.8, 46.7, "tools", active=((46.7, 12.9), (141.0, 39.0))),
    _row(r"mistral-?nemo|nemo-?minitron", 0.9, 12.2, "tools"),
    _row(r"mistral-?small-?:?-?3\.[1-9]|mistral-?medium|ministral-?3", 1.1, 24.0, "tools vision"),
    _row(r"mistral-?small", 1.0, 23.6, "tools"),
    _row(r"pixtral-?large", 1.0, 123.0, "tools vision"),
    _row(r"pixtral", 0.9, 12.4, "tools vision"),
    _row(r"mistral-?large", 1.0, 123.0, "tools"),
    _row(r"ministral", 0.9, 8.0, "tools"),
    _row(r"mistral", 0.9, 7.2, "tools"),
    _row(r"zephyr|openhermes|neural-?chat|starling|openchat|dolphin|nous-hermes", 0.9, 7.2),
    _row(r"deepseek-?(v3|chat-v3)", 1.1, 671.0, "tools", code=1.5, active=_DEEPSEEK),
    _row(r"deepseek", 0.8, 16.0, code=1.2, active=_DEEPSEEK),
    _row(r"kimi", 1.1, 1000.0, "tools", code=1.5, active=((1000.0, 32.0), (48.0, 3.0))),
    _row(r"glm-?[45]\.\d.*flash", 1.3, 30.0, "reasoning tools", code=1.5, math=HYBRID, active=_GLM),
    _row(r"glm-?[45]\.\d.*air", 1.3, 106.0, "reasoning tools", code=1.5, math=HYBRID, active=_GLM),
    _row(r"glm-?[45]\.\d", 1.3, 355.0, "reasoning tools", code=1.5, math=HYBRID, active=_GLM),
    _row(r"glm", 1.0, 9.4, "tools"),
    _row(r"minimax", 1.4, 230.0, "reasoning tools", code=1.5, math=HYBRID, active=((230.0, 10.0), (456.0, 45.9))),
    _row(r"command-?a", 1.0, 111.0, "tools"),
    _row(r"command-?r-?plus|command-?r\+", 0.8, 104.0, "tools"),
    _row(r"command-?r-?7b", 0.8, 8.0, "tools"),
    _row(r"command-?r", 0.8, 32.3, "tools"),
    _row(r"aya", 0.8, 8.0),
    _row(r"granite-?4", 1.1, 6.9, "tools", active=((6.9, 1.0), (32.2, 9.0))),
    _row(r"granite-?3(\.\d)?-?moe", 0.8, 3.3, "tools", active=((1.3, 0.4), (1.0, 0.4), (3.3, 0.8), (3.0, 0.8))),
    _row(r"granite", 0.9, 8.2, "tools"),
    _row(r"olmoe", 0.7, 6.9, active=((6.9, 1.3),)),
    _row(r"olmo-?[23]", 0.9, 7.3),
    _row(r"exaone", 1.0, 7.8),
    _row(r"ernie", 1.0, 21.0, active=((21.0, 3.0), (300.0, 47.0))),
    _row(r"solar", 0.7, 10.7),
    _row(r"(?<![a-z])yi(?![a-z])", 0.7, 6.1),
    _row(r"internlm", 0.8, 7.7),
    _row(r"baichuan|chatglm|xverse", 0.5, 7.0),
    _row(r"dbrx", 0.8, 132.0, active=((132.0, 36.0),)),
    _row(r"grok", 0.9, 314.0, active=((314.0, 86.0),)),
    _row(r"reflection", 0.9, 70.6),
    _row(r"(?<![a-z])(gpt-?[345].*(mini|nano|turbo)|o[1-5]-?mini|claude.*haiku|gemini.*flash)", 1.3, 30.0, _PAID),
    _row(r"(?<![a-z])(gpt-?[345]|o[1-5](?![\da-z])|claude|gemini)", 1.5, 200.0, _PAID, code=1.5),
)  # fmt: skip

UNKNOWN_FAMILY = _row(r"", 1.0)
"""For unknown names: a model that chats."""

STRENGTH_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<![a-z])(coder?|coding|sql)(?![a-z])"), "coder"),
    (re.compile(r"reason|think|(?<![a-z])(r1|cot|math)(?![a-z])"), "reasoning"),
    (re.compile(r"vision|visual|(?<![a-z])(vl|vlm|multimodal)(?![a-z])"), "vision"),
    (re.compile(r"(?<![a-z])tools?(?![a-z])|function-?call|tool-?use|firefunction|functiongemma"), "tools"),
)
"""Words that mean a strength in the names of any family."""

BASE_MODEL = re.compile(r"(?<![a-z])(base|text|pretrain(ed)?|fim|draft|pt)(?![a-z])")
"""Words in the names of base models, which only continue a text."""
