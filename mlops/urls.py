"""Where everything is: the portal at the root, the admin below /admin/, the API below /api/."""

from django.contrib import admin
from django.urls import include, path

from jobs.views import healthz, readyz

urlpatterns = [
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("api/", include("mlops.api")),
    path("", include("mlops.portal")),
]

handler500 = "mlops.problems.server_error"
