"""The `vllm serve` command line that the settings mean; arguments as vLLM 0.14 and later name them."""

from urllib.parse import urlsplit

from penstock.config.settings import Settings, VllmSettings


def command_line(settings: Settings) -> list[str]:
    """The words of the command. The port is the one where the gateway looks for vLLM."""
    vllm = settings.vllm
    words = ["vllm", "serve", vllm.model, "--port", str(_port(settings))]
    words += ["--gpu-memory-utilization", f"{vllm.gpu_memory_utilization:g}"]
    words += ["--max-model-len", str(vllm.max_model_len)]
    words += ["--tensor-parallel-size", str(vllm.tensor_parallel_size)]
    if vllm.enable_fp8 and not _is_fp8(vllm.model):
        words += ["--quantization", "fp8"]
    if vllm.use_flashinfer:
        words += ["--attention-backend", "FLASHINFER"]
    return words


def remark(vllm: VllmSettings) -> str:
    """What a user should know about the command; empty when there is nothing."""
    if vllm.enable_fp8 and _is_fp8(vllm.model):
        return f"{vllm.model} is FP8 already, so VLLM_ENABLE_FP8 adds nothing: vLLM refuses to quantise it again"
    return ""


def _is_fp8(model: str) -> bool:
    return "fp8" in model.lower()


def _port(settings: Settings) -> int:
    url = next((server.urls[0] for server in settings.servers if server.kind == "vllm"), "http://localhost:8000")
    return urlsplit(url).port or 443
