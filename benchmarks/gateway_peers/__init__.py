"""What others serve the same model with, the same machine, the same run, an environment of its own each.

from benchmarks.gateway_peers import servers
with servers.running("fastapi", artifacts) as peer:   # or mlserver, mlflow, bentoml
    peer.post                                         # how a row is asked, and where its score is in the answer
"""
