"""How good decisions are on tasks whose outcomes were recorded: replay, baselines, report."""
