"""How fast pictures are encoded, as ratios to named baselines: `python -m benchmarks`. Never a timed test."""
