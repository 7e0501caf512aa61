"""The words of the prediction log for who answers a row and how it went. Pure."""

CHAMPION, CANARY, FALLBACK = "champion", "canary", "fallback"
OK, ERROR = "ok", "error"
LIVE = "gateway"
"""Where a row comes from that was answered here (``prediction_log.GATEWAY``)."""
