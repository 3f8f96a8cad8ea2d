"""The `vllm serve` command line."""

import pytest

from penstock.cli.vllm_args import build_command, check_quantization
from tests.support.settings_folder import SettingsFolder


def test_the_defaults_become_arguments(folder: SettingsFolder) -> None:
    words = build_command(folder.load(LLM_MODE="vllm", LLM_MODEL="a/b"))
    assert words == [
        *("vllm", "serve", "a/b"),
        *("--port", "8000"),
        *("--gpu-memory-utilization", "0.95"),
        *("--max-model-len", "16384"),
        *("--tensor-parallel-size", "1"),
        *("--attention-backend", "FLASHINFER"),
    ]


def test_every_variable_has_its_argument(folder: SettingsFolder) -> None:
    words = build_command(
        folder.load(
            VLLM_MODEL="a/b",
            VLLM_URL="http://localhost:8001/v1",
            VLLM_GPU_MEMORY_UTILIZATION="0.5",
            VLLM_MAX_MODEL_LEN="4096",
            VLLM_TENSOR_PARALLEL_SIZE="2",
            VLLM_ENABLE_FP8="true",
            VLLM_USE_FLASHINFER="false",
        )
    )
    assert words == [
        *("vllm", "serve", "a/b"),
        *("--port", "8001"),
        *("--gpu-memory-utilization", "0.5"),
        *("--max-model-len", "4096"),
        *("--tensor-parallel-size", "2"),
        *("--quantization", "fp8"),
    ]


@pytest.mark.parametrize("model", ["neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8", "x/y-fp8-dynamic"])
def test_a_model_that_is_fp8_already_is_not_quantised_again(folder: SettingsFolder, model: str) -> None:
    settings = folder.load(VLLM_MODEL=model, VLLM_ENABLE_FP8="1")
    assert "--quantization" not in build_command(settings)
    assert "is FP8 already" in check_quantization(settings.vllm)


def test_a_model_without_quantization_gets_no_comment(folder: SettingsFolder) -> None:
    assert check_quantization(folder.load(VLLM_MODEL="a/b", VLLM_ENABLE_FP8="1").vllm) == ""
