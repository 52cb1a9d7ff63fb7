"""How sure a number is: intervals, paired tests and the resampling behind them. Knows nothing of models or files."""
