"""Settings, read once from the environment.

Nothing needs to be set for development and the demo: SQLite below ``.gatehouse/``, debug on, a key of its own.
Production is ``GATEHOUSE_DEBUG=off``; then a secret key and the allowed hosts are required and a missing or
unsafe value stops the start with a sentence that says what to set (README, "Production settings").
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_HASHES, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from django.templatetags.static import static
from django.urls import reverse_lazy

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = env.bool("GATEHOUSE_DEBUG", default=True)
DATA_ROOT = env.str("GATEHOUSE_DATA", default=str(BASE_DIR / ".gatehouse"))


def _development_key() -> str:
    """A random key kept beside the development data, so that sessions and queued tasks survive a restart."""
    path = Path(DATA_ROOT) / "secret_key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(get_random_secret_key())
        path.chmod(0o600)
    return path.read_text()


SECRET_KEY = env.str("GATEHOUSE_SECRET_KEY", default="")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "GATEHOUSE_SECRET_KEY must be set (50 random characters) when GATEHOUSE_DEBUG is off."
        )
    SECRET_KEY = _development_key()

ALLOWED_HOSTS = env.list("GATEHOUSE_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "GATEHOUSE_ALLOWED_HOSTS must name the hosts this portal answers for, e.g. 'gatehouse.example.com'."
    )
CSRF_TRUSTED_ORIGINS = env.list("GATEHOUSE_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "audit",  # before django.contrib.auth: its createsuperuser leaves an event
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "rules",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
    "jobs",
    "features",
    "registry",
    "gates",
    "rollout",
    "monitoring",
    "mlops",
]

MIDDLEWARE = [
    "mlops.request_ids.RequestIds",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "mlops.csp.AdminPolicyMiddleware",
    "audit.edges.RefusalMiddleware",
]

ROOT_URLCONF = "mlops.urls"
WSGI_APPLICATION = "mlops.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Database: SQLite (WAL, IMMEDIATE) embedded, PostgreSQL in production ---------------------------------------------
# Without WAL and IMMEDIATE one write in six fails with "database is locked" under four writers (docs/operations.md).

SQLITE_OPTIONS: dict[str, Any] = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; "
    # Without it INSERT OR REPLACE removes a row that can not be deleted: no trigger would fire for what it replaces.
    "PRAGMA recursive_triggers=ON; "
    # What is read by key stays in memory: with the 2 MB that SQLite takes by itself, a read of many waits for pages.
    "PRAGMA cache_size=-65536; PRAGMA mmap_size=268435456;",
}
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("GATEHOUSE_DATABASE_URL", default=f"sqlite:///{Path(DATA_ROOT) / 'gatehouse.sqlite3'}")
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    Path(DATA_ROOT).mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS
DATABASES["default"]["CONN_MAX_AGE"] = None
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# --- Online store: "database" (the one above), or the address of a Redis ----------------------------------------------

ONLINE_STORE = env.str("GATEHOUSE_ONLINE_STORE", default="database")
if ONLINE_STORE != "database":
    if not ONLINE_STORE.startswith(("redis://", "rediss://", "unix://")):
        raise ImproperlyConfigured(
            "GATEHOUSE_ONLINE_STORE must be 'database' or the address of a Redis, such as "
            "redis://cache.internal:6379/0 (rediss:// with TLS, unix:///path for a socket)."
        )
    if find_spec("redis") is None:
        raise ImproperlyConfigured("GATEHOUSE_ONLINE_STORE names a Redis: install its client, pip install '.[redis]'.")
# Offline engines, the first of which answers; each new version of a view must give the same values on all of them.
ENGINES = env.list("GATEHOUSE_ENGINES", default=["duckdb"])
if not ENGINES or len(set(ENGINES)) < len(ENGINES) or not set(ENGINES) <= {"duckdb", "spark"}:
    raise ImproperlyConfigured("GATEHOUSE_ENGINES is 'duckdb' (the default), 'spark', or both: 'duckdb,spark'.")
if "spark" in ENGINES and find_spec("pyspark") is None:
    raise ImproperlyConfigured("GATEHOUSE_ENGINES names Spark: install it, pip install '.[spark]' (and Java 17).")
SPARK_MASTER = env.str("GATEHOUSE_SPARK_MASTER", default="local[2]")
# What the offline engine may keep in memory, such as "4GB"; empty: up to 80 % of the machine. The rest spills to disk.
ENGINE_MEMORY = env("GATEHOUSE_ENGINE_MEMORY", default="")
# Reads of the online store as prepared statements on PostgreSQL; "off" behind a pooler that mixes sessions.
PREPARED_READS = env.bool("GATEHOUSE_PREPARED_READS", default=True)

# --- The spool of the prediction log: where this host's gateways write before they reply ------------------------------

GATEHOUSE_SPOOL = env.str("GATEHOUSE_SPOOL", default="")  # default: spool below the data root; a local disk
GATEHOUSE_SPOOL_BYTES = env.int("GATEHOUSE_SPOOL_BYTES", default=2 * 2**30)
if GATEHOUSE_SPOOL_BYTES < 2**20:
    raise ImproperlyConfigured("GATEHOUSE_SPOOL_BYTES, what a host's spool may take, must be at least 1048576 (1 MiB).")

# --- Traffic that nginx splits: the folder that the nginx of this machine includes, its logs, how it is called --------

GATEHOUSE_NGINX_FOLDER = env.str("GATEHOUSE_NGINX_FOLDER", default="/etc/nginx/gatehouse.d")
GATEHOUSE_NGINX_LOGS = env.str("GATEHOUSE_NGINX_LOGS", default="/var/log/nginx/gatehouse")
GATEHOUSE_NGINX_COMMAND = env.str("GATEHOUSE_NGINX_COMMAND", default="nginx")  # or "sudo -n nginx"

# --- The gateway ------------------------------------------------------------------------------------------------------

# Who may ask it: the holder of an API token with the scope "serve" and a duty for the endpoint's model; or, behind a
# network that lets only the product's servers through, anybody.
GATEHOUSE_GATEWAY_AUTH = env.str("GATEHOUSE_GATEWAY_AUTH", default="token")
if GATEHOUSE_GATEWAY_AUTH not in ("token", "none"):
    raise ImproperlyConfigured("GATEHOUSE_GATEWAY_AUTH is 'token' (the default) or 'none'.")

# --- Artifacts: addressed by SHA-256, write-once ----------------------------------------------------------------------

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if not DEBUG
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
    "artifacts": {
        "BACKEND": "registry.storage.WriteOnceFolder",
        "OPTIONS": {"location": str(Path(DATA_ROOT) / "artifacts")},
    },
}
STATIC_URL = "static/"
STATIC_ROOT = env.str("GATEHOUSE_STATIC_ROOT", default=str(Path(DATA_ROOT) / "static"))
PLOTLY = Path(find_spec("plotly").submodule_search_locations[0])  # type: ignore[union-attr,index]  # it is installed
STATICFILES_DIRS = [("plotly", PLOTLY / "package_data")]  # served by ourselves, never from a CDN

# --- Queue: the doorbell, never the ledger (docs/operations.md) -------------------------------------------------------
# The job row is the record. The ORM broker on the same database commits a bell with the change that caused it.

Q_CLUSTER: dict[str, Any] = {
    "name": "gatehouse",
    "orm": "default",
    "broker_class": "jobs.broker.Bells",  # the ORM broker, in order, with a queue for each cluster's heartbeat
    "workers": env.int("GATEHOUSE_WORKERS", default=2),
    "timeout": 3600,  # the last resort; each job's child process has its own limit
    "retry": 15_000,  # > (timeout + 3) * (1 + ceil((queue_limit + bulk) / workers)): no bell rings twice by itself
    "queue_limit": 2,
    "bulk": 1,
    "max_attempts": 3,
    "ack_failures": True,
    "save_limit": -1,
    "catch_up": False,
    "poll": 0.5,
    "guard_cycle": 1,
    "recycle": 200,
    "max_rss": 1_500_000,  # kilobytes
    "label": "Task queue (internal)",
}
# Seconds. A worker that vanishes costs a lease; one that hangs costs the heartbeat's limit; both are well below the two
# minutes that we promise (docs/operations.md).
GATEHOUSE_LEASE_SECONDS = env.float("GATEHOUSE_LEASE_SECONDS", default=30)
GATEHOUSE_HEARTBEAT_EVERY = env.float("GATEHOUSE_HEARTBEAT_EVERY", default=5)
GATEHOUSE_HEARTBEAT_LIMIT = env.float("GATEHOUSE_HEARTBEAT_LIMIT", default=20)
GATEHOUSE_TICK_LIMIT = env.float("GATEHOUSE_TICK_LIMIT", default=180)
GATEHOUSE_STOP_GRACE = env.float("GATEHOUSE_STOP_GRACE", default=50)
GATEHOUSE_WORKER_ID = env.str("GATEHOUSE_WORKER_ID", default="")  # set by the watchdog for its cluster, by nobody else
GATEHOUSE_TICK = "mlops.schedules.tick"
GATEHOUSE_REACTIONS = "mlops.reactions.REACTIONS"

# --- People -----------------------------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = ["rules.permissions.ObjectPermissionBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = reverse_lazy("portal:login")
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
SESSION_COOKIE_AGE = 8 * 3600

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = "mlops.formats"

# --- The log as evidence: the key that signs its checkpoints, and where each is written besides the database ----------

AUDIT_KEY = env.str("GATEHOUSE_AUDIT_KEY", default="")  # an Ed25519 private key as PEM, or the path of one
MAKES_AUDIT_KEY = DEBUG  # without one, development makes its own beside the data
AUDIT_FORMER_KEYS = env.list("GATEHOUSE_AUDIT_FORMER_KEYS", default=[])  # public, 64 hexadecimal digits each
CHECKPOINTS = env.str("GATEHOUSE_CHECKPOINTS", default="")  # default: checkpoints.jsonl below the data root

# --- OpenLineage: tell another tool of training runs, gate runs and promotions; empty: nobody ------------------------

OPENLINEAGE_URL = env.str("GATEHOUSE_OPENLINEAGE_URL", default="")
OPENLINEAGE_KEY = env.str("GATEHOUSE_OPENLINEAGE_KEY", default="")
if OPENLINEAGE_URL and not OPENLINEAGE_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured(
        "GATEHOUSE_OPENLINEAGE_URL must be the address of an OpenLineage receiver, such as https://marquez.internal "
        "(/api/v1/lineage is added), or empty."
    )

# --- API --------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["mlops.authentication.BearerTokens"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "mlops.operations.Operations",
    "EXCEPTION_HANDLER": "mlops.problems.exception_handler",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "mlops.pagination.CursorPagination",
    "PAGE_SIZE": 50,
}
KNOX_TOKEN_MODEL = "audit.ApiToken"
MIGRATION_MODULES = {"knox": None}  # its own table is not ours: the tokens are audit.ApiToken
REST_KNOX = {
    "TOKEN_MODEL": KNOX_TOKEN_MODEL,
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_PREFIX": "gh_",
    "TOKEN_LIMIT_PER_USER": None,
    "TOKEN_TTL": None,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Gatehouse API",
    "DESCRIPTION": "Register model versions with their lineage, submit evidence, ask for verdicts.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "TrainingRunState": "registry.models.RunState",
        "GateRunState": "gates.models.GateRunState",
        "RolloutState": "rollout.models.RolloutState",
        "IncidentState": "monitoring.models.IncidentState",
        "EvidenceKind": "gates.models.EvidenceKind",
        "IncidentKind": "monitoring.models.IncidentKind",
        "DecisionKind": "rollout.models.DecisionKind",
        "Arm": ["champion", "canary", "fallback"],
        "PredictionStatus": ["ok", "error", "fallback"],
        "ReplayCause": ["reproduced", "feature_skew", "artifact_difference", "not_reproducible"],
        "LineageEventStatus": ["stored", "known"],
        "LineageBatchStatus": ["success", "partial_success", "failure"],
    },
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "mlops.schema.add_problems"],
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20
GATEHOUSE_MAX_ARTIFACT_BYTES = env.int("GATEHOUSE_MAX_ARTIFACT_BYTES", default=512 * 2**20)
# What all files of all versions of a model may take together, unless its platform owner set another quota for it.
GATEHOUSE_MODEL_QUOTA_BYTES = env.int("GATEHOUSE_MODEL_QUOTA_BYTES", default=20 * 2**30)
# Hosts at which external models may be asked (Open Inference Protocol): host, or http://host:port=network.
GATEHOUSE_EXTERNAL_HOSTS = env.list("GATEHOUSE_EXTERNAL_HOSTS", default=[])
# New skops versions are converted to ONNX, and served so where the scores differ by no more than the tolerance.
GATEHOUSE_ONNX = env.str("GATEHOUSE_ONNX", default="on")
if GATEHOUSE_ONNX not in ("on", "off"):
    raise ImproperlyConfigured("GATEHOUSE_ONNX is 'on' (the default) or 'off'.")
GATEHOUSE_ONNX_TOLERANCE = env.float("GATEHOUSE_ONNX_TOLERANCE", default=1e-5)
GATEHOUSE_ARTIFACT_USERS = "mlops.references.users"  # why a version's files must stay, beyond what the registry knows

# --- Browser security -------------------------------------------------------------------------------------------------
# Plotly inserts one empty <style>; its hash is allowed instead of 'unsafe-inline'. unfold's Alpine needs eval: only
# below /admin/ (mlops.admin relaxes the policy there, nowhere else).

EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
# Plotly's bundle carries the style sheet of its maps and inserts it, maps or not: this hash allows exactly that text
# (plotly 7.1; tests/browser notices another).
# It sets two style attributes besides: an empty one, and "image-rendering" on heat maps (they blur without it).
HEATMAP_STYLE = "'sha256-AR/cKIZjWPcPmBUPDA6oti9XBiTbJvz0Cro2J1VzzS8='"
MAP_STYLE = "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF, UNSAFE_HASHES, EMPTY_STYLE, MAP_STYLE, HEATMAP_STYLE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
ADMIN_CSP = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if not DEBUG:
    SECURE_SSL_REDIRECT = env.bool("GATEHOUSE_SSL_REDIRECT", default=True)
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]  # probes speak plain HTTP inside the cluster
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    if env.bool("GATEHOUSE_BEHIND_PROXY", default=False):
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"named": {"()": "mlops.request_ids.Named"}},
    "formatters": {"line": {"format": "{asctime} {levelname} {name} [{request_id}] {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["named"]}},
    "root": {"handlers": ["console"], "level": env.str("GATEHOUSE_LOG_LEVEL", default="WARNING")},
    "loggers": {"jobs.watchdog": {"level": "INFO"}},  # a handful of lines: start, stop, restart and why
}

PRIMARY = {  # the portal's blue
    "50": "#eff4fc",
    "100": "#e0eaf9",
    "200": "#c3d6f2",
    "300": "#9abae9",
    "400": "#7fa9ee",
    "500": "#4f80d0",
    "600": "#2d5fb3",
    "700": "#264f95",
    "800": "#1f4078",
    "900": "#1a355f",
    "950": "#11223d",
}
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Gatehouse",
    "SITE_HEADER": "Gatehouse",
    "SITE_SUBHEADER": "Every model's way to production",
    "SITE_SYMBOL": "door_front",
    "SITE_URL": "/",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("gatehouse/gate.svg")}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda request: static("gatehouse/gatehouse.css")],
    "COLORS": {"primary": PRIMARY},
    "SIDEBAR": {"show_search": False, "navigation": "mlops.admin.navigation.sidebar"},
    "DASHBOARD_CALLBACK": "mlops.admin.navigation.first_page",
}
