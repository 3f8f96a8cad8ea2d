"""`penstock sim`: run a simulated model server."""

import difflib
import pkgutil
from importlib.resources import files
from typing import Annotated

import typer

from penstock.cli.options import USAGE_ERROR, fail


def list_kinds() -> list[str]:
    """List the kinds that can be simulated: the modules in `sim/kinds`. They are not imported, to keep --help fast."""
    return sorted(module.name for module in pkgutil.iter_modules([str(files("penstock") / "sim" / "kinds")]))


def _parse_kind(text: str) -> str:
    kinds = list_kinds()
    if text in kinds:
        return text
    close = difflib.get_close_matches(text, kinds, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(kinds)}.{hint}")


KindOption = Annotated[
    str, typer.Option(parser=_parse_kind, metavar=f"[{'|'.join(list_kinds())}]", help="Kind of model server.")
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free port.")]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
ModelsOption = Annotated[str, typer.Option(help="Models, separated by commas. Default: typical models of the kind.")]
SlotsOption = Annotated[int, typer.Option(min=1, help="Number of requests generated at a time.")]
TokenRateOption = Annotated[float, typer.Option(help="Speed of generation; inf: immediate.")]
PrefillRateOption = Annotated[
    float, typer.Option("--prefill-tokens-per-second", help="Speed of reading a prompt; inf: immediate.")
]
LoadSecondsOption = Annotated[float, typer.Option(min=0, help="Time to load a model.")]
MaxLoadedOption = Annotated[int, typer.Option(min=1, help="Number of models that fit into memory.")]
QueueLimitOption = Annotated[int, typer.Option(min=0, help="Number of requests that may wait; more are refused.")]
ColdStartOption = Annotated[bool, typer.Option(help="Start with the model not loaded (servers of one model).")]
SeedOption = Annotated[int, typer.Option(help="Random seed for fault injection.")]
FaultsOption = Annotated[
    str, typer.Option(help="Faults with their probabilities: refuse=0.1,cut=0.05. A name alone: always.")
]


def simulate(
    kind: KindOption,
    port: PortOption,
    host: HostOption = "127.0.0.1",
    models: ModelsOption = "",
    slots: SlotsOption = 2,
    tokens_per_second: TokenRateOption = 50.0,
    prefill_rate: PrefillRateOption = 2000.0,
    load_seconds: LoadSecondsOption = 5.0,
    max_loaded: MaxLoadedOption = 3,
    queue_limit: QueueLimitOption = 512,
    cold_start: ColdStartOption = False,
    seed: SeedOption = 0,
    faults: FaultsOption = "",
) -> int:
    """Run a simulated model server.

    It speaks the protocol of the real one.

    \b
    Examples:
      penstock sim --kind ollama --port 11434 --models gemma3:1b,qwen2.5:1.5b
      penstock sim --kind vllm --port 8000 --slots 16 --tokens-per-second 200
      penstock sim --kind llamacpp --port 8080 --faults hang_before=0.1,status_503=0.2
      penstock sim --kind ollama --port 11435 --prefill-tokens-per-second 300 --max-loaded 1 --seed 7
    """
    from penstock import sim  # lazy: only this command simulates  # noqa: PLC0415

    try:
        options = sim.SimOptions(
            kind=kind,
            host=host,
            port=port,
            models=tuple(name.strip() for name in models.split(",") if name.strip()),
            slots=slots,
            tokens_per_second=tokens_per_second,
            prefill_tokens_per_second=prefill_rate,
            load_seconds=load_seconds,
            max_loaded=max_loaded,
            queue_limit=queue_limit,
            cold_start=cold_start,
            seed=seed,
            faults=sim.Faults.parse(faults),
        )
        sim.run(options)
    except ValueError as error:
        fail(f"Invalid option for the simulated server: {error}", USAGE_ERROR)
    except OSError as error:
        fail(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port, or 0 for any free port.")
    return 0
