"""`mlx_lm.server`: MLX with its CPU backend on Linux, as it is on a Mac."""

import sys
from pathlib import Path

from recipe import Environment, Place, Receipt

MLX, MLX_LM = "0.32.4", "0.32.2"
RECIPE = f"mlx {MLX}, mlx-lm {MLX_LM}; 2"
PINS = Path(__file__).with_name("mlx-pins.txt")


def install(place: Place) -> Receipt:
    environment = Environment.create(place, place.folder)
    backend = "" if sys.platform == "darwin" else "[cpu]"
    place.say(f"pip install mlx {MLX} and mlx-lm {MLX_LM}")
    environment.install_pinned(
        PINS,
        imports="mlx_lm.server, mlx_lm.models.llama",
        otherwise=lambda: environment.install(f"mlx{backend}=={MLX}", f"mlx-lm=={MLX_LM}"),
    )
    return Receipt(RECIPE, f"mlx {MLX}, mlx-lm {MLX_LM}", str(environment.program("mlx_lm.server")))
