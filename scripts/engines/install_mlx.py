"""`mlx_lm.server`: MLX with its CPU backend on Linux, as it is on a Mac."""

import sys

from recipe import Environment, Place, Receipt

MLX, MLX_LM = "0.32.4", "0.32.2"
RECIPE = f"mlx {MLX}, mlx-lm {MLX_LM}; 1"


def install(place: Place) -> Receipt:
    environment = Environment.create(place, place.folder)
    place.say(f"pip install mlx {MLX} and mlx-lm {MLX_LM}")
    backend = "" if sys.platform == "darwin" else "[cpu]"
    environment.install(f"mlx{backend}=={MLX}", f"mlx-lm=={MLX_LM}")
    program = environment.program("mlx_lm.server")
    place.run(program, "--help")
    return Receipt(RECIPE, f"mlx {MLX}, mlx-lm {MLX_LM}", str(program))
