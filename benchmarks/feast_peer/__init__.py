"""Feast 0.67 as the peer of our benchmarks: the same files, the same machine, the same run, an environment of its own.

    from benchmarks.feast_peer import comparison
    comparison.historical("M", "duckdb")                  # CPU, wall, memory, and the answer as Parquet
    with comparison.Repository(online="redis") as feast:  # the views of a workload, applied
        feast.materialize()                               # what 50k entities × 10 features cost
        feast.read([[1], [2, 3]])                         # two online reads in Feast's process
        feast.serve([[1], [2, 3]])                        # the same through `feast serve`

``environment`` installs Feast, ``session`` runs Python inside that environment (``inside``), ``servers`` starts the
servers of online stores.
"""
