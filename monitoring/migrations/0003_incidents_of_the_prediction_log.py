from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0002_consistency_incidents"),
    ]

    operations = [
        migrations.AlterField(
            model_name="incident",
            name="kind",
            field=models.CharField(
                choices=[
                    ("drift", "Confirmed drift"),
                    ("decay", "Performance decay"),
                    ("data", "Data incident"),
                    ("freshness", "A source or feature is stale"),
                    ("consistency", "Served values differ from training"),
                    ("rolled_back", "A rollout was rolled back"),
                    ("training_failed", "A training run failed"),
                    ("dead_job", "Background work gave up"),
                    ("serving", "The served version does not answer"),
                    ("stuck", "A rollout holds without enough evidence"),
                    ("prediction_log", "The prediction log loses rows, or may"),
                ],
                max_length=20,
            ),
        ),
    ]
