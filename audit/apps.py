from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        from django.apps import apps

        from audit import checks  # noqa: F401  (registers the system checks)
        from audit.guards import install_after_migrate, step_aside_before_migrate

        last = [app for app in apps.get_app_configs() if app.models_module is not None][-1]
        pre_migrate.connect(step_aside_before_migrate, sender=last, dispatch_uid="audit.guards")
        post_migrate.connect(install_after_migrate, sender=last, dispatch_uid="audit.guards")
