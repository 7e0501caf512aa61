"""The online store changes its form (0003) and is filled anew: without runs on record, the next one writes everything."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0001_initial"),
    ]

    operations = [
        migrations.RunSQL("DELETE FROM features_materialization", migrations.RunSQL.noop),
        migrations.DeleteModel(name="OnlineValue"),
    ]
