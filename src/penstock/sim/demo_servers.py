"""The two servers of the demo, used when nothing is configured and nothing is found: a strong one and a local one."""

from penstock.sim.options import SimModel, SimOptions

PREFIX = "[simulated] "


def demo_servers() -> tuple[SimOptions, SimOptions]:
    """Return the options of ("remote", "localhost"): an Ollama with three RTX 3090 and one on a CPU.

    The rates are those of such machines. Only loading is faster, so that a first short answer starts within about a
    second and is complete within about three. Every text begins with `[simulated]`.
    """
    remote = SimOptions(
        kind="ollama",
        models=(
            SimModel.from_name("llama3.3:70b", tokens_per_second=17, prefill_tokens_per_second=600, load_seconds=1.2),
            SimModel.from_name("gemma3:12b", tokens_per_second=58, prefill_tokens_per_second=2200),
            SimModel.from_name("qwen2.5-coder:14b", tokens_per_second=52, prefill_tokens_per_second=2000),
            SimModel.from_name("qwen3:14b", tokens_per_second=50, prefill_tokens_per_second=2000),
        ),
        slots=2,
        load_seconds=0.6,
        max_loaded=3,
        prefix=PREFIX,
    )
    localhost = SimOptions(
        kind="ollama",
        models=(
            SimModel.from_name("gemma3:1b", tokens_per_second=45, prefill_tokens_per_second=500),
            SimModel.from_name("qwen2.5:1.5b", tokens_per_second=36, prefill_tokens_per_second=380),
            SimModel.from_name("phi3:3b", tokens_per_second=16, prefill_tokens_per_second=150),
        ),
        slots=1,
        load_seconds=0.3,
        max_loaded=3,
        prefix=PREFIX,
        seed=1,
    )
    return remote, localhost
