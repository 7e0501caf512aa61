"""Each claim about speed as a script: ``make bench BENCH=<name>`` prints a line per figure; exit code 1 when short."""
