"""Simulated model servers that speak the real protocols, keep a real one's pace, and break on request."""

from penstock.sim.demo_servers import demo_servers
from penstock.sim.faults import Faults
from penstock.sim.options import SimModel, SimOptions
from penstock.sim.simulator import Simulator, run
from penstock.sim.speed_model import Counters

__all__ = ["Counters", "Faults", "SimModel", "SimOptions", "Simulator", "demo_servers", "run"]
