"""`penstock vllm-args`: the `vllm serve` command for the settings; arguments as vLLM 0.14 and later name them."""

import json
import shlex
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from penstock.cli.options import USAGE_ERROR, ConfigOption, fail, load_or_exit, print_error
from penstock.config.settings import Settings, VllmSettings


def print_vllm_args(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of arguments.")] = False,
) -> int:
    """Print the `vllm serve` command for the VLLM_* variables.

    \b
    Examples:
      VLLM_MODEL=Qwen/Qwen3-8B penstock vllm-args
      eval "$(penstock vllm-args)"
    """
    settings = load_or_exit(config)
    if not settings.vllm.model:
        fail("No model for vLLM is set. Set VLLM_MODEL, or LLM_MODEL together with LLM_MODE=vllm.", USAGE_ERROR)
    command = build_command(settings)
    if warning := check_quantization(settings.vllm):
        print_error(f"penstock: {warning}")
    sys.stdout.write((json.dumps(command) if as_json else shlex.join(command)) + "\n")
    return 0


def build_command(settings: Settings) -> list[str]:
    """Build the command and its arguments. The port is the one at which the gateway expects vLLM."""
    vllm = settings.vllm
    command = ["vllm", "serve", vllm.model, "--port", str(_find_port(settings))]
    command += ["--gpu-memory-utilization", f"{vllm.gpu_memory_utilization:g}"]
    command += ["--max-model-len", str(vllm.max_model_len)]
    command += ["--tensor-parallel-size", str(vllm.tensor_parallel_size)]
    if vllm.enable_fp8 and not _is_fp8(vllm.model):
        command += ["--quantization", "fp8"]
    if vllm.use_flashinfer:
        command += ["--attention-backend", "FLASHINFER"]
    return command


def check_quantization(vllm: VllmSettings) -> str:
    """Return a warning when the quantization that is set has no effect; empty when there is none."""
    if vllm.enable_fp8 and _is_fp8(vllm.model):
        return f"VLLM_ENABLE_FP8 has no effect: {vllm.model} is FP8 already, and vLLM refuses to quantize it again."
    return ""


def _is_fp8(model: str) -> bool:
    return "fp8" in model.lower()


def _find_port(settings: Settings) -> int:
    url = next((server.urls[0] for server in settings.servers if server.kind == "vllm"), "http://localhost:8000")
    return urlsplit(url).port or 443
