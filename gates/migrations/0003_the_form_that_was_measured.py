from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gates", "0002_policies_of_two_people_and_frozen_runs"),
    ]

    operations = [
        migrations.AddField(
            model_name="preparation",
            name="served_digest",
            field=models.CharField(
                default="",
                help_text="SHA-256 of the form in which the version was measured, and is served from then on.",
                max_length=64,
            ),
            preserve_default=False,
        ),
    ]
