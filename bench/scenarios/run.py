#!/usr/bin/env python3
"""Run `python -m bench.scenarios …` from any folder."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
runpy.run_module("bench.scenarios", run_name="__main__", alter_sys=True)
