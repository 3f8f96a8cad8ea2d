"""Plots of a scenario: the distribution of latencies, and the number of swaps per policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

try:
    import matplotlib as mpl
    from matplotlib import pyplot as plt
except ImportError:  # plots are optional
    plt = None


def explain_missing() -> str:
    """Return the reason why plots are not available, empty if they are."""
    return "" if plt else "no plots: matplotlib is not installed (pip install matplotlib)"


def save_plot(
    name: str, about: str, waits: Mapping[str, Sequence[float]], swaps: Mapping[str, float], folder: Path
) -> Path:
    """Save an SVG: the share of calls with a first token within x seconds, and swaps per day."""
    mpl.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), gridspec_kw={"width_ratios": (2, 1)})
    for policy, each in waits.items():
        ordered = sorted(each)
        picked = [min(len(ordered) - 1, round(i * len(ordered) / 200)) for i in range(201)]
        share = [100 * i / len(ordered) for i in picked]
        left.plot([max(ordered[i], 0.01) for i in picked], share, label=policy, linewidth=2 if policy == "ours" else 1)
    left.set_xscale("log")
    left.set_xlabel("seconds to the first token")
    left.set_ylabel("% of calls")
    left.set_ylim(0, 100)
    left.grid(alpha=0.3)
    left.legend(fontsize=8)
    right.barh(list(swaps), list(swaps.values()), color="tab:gray")
    right.invert_yaxis()
    right.set_xlabel("swaps a day")
    figure.suptitle(f"{name}: {about}", fontsize=9)
    figure.tight_layout()
    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
