from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollout", "0003_pauses_that_do_not_count")]

    operations = [
        migrations.AddField(
            model_name="spoolsegment",
            name="damaged_bytes",
            field=models.PositiveBigIntegerField(
                default=0,
                help_text="Records that can not be read; their segment stays beside the others as .damaged.",
            ),
        ),
    ]
