"""What makes the trail evidence: the chain over all events, its signed checkpoints, and the debt of a silent write."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from audit.models.events import Event


class Link(models.Model):
    """An event's place in the chain. The database writes it, with the event; positions count from 1 without gaps."""

    position = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(Event, on_delete=models.PROTECT, related_name="link")
    hash = models.CharField(max_length=64, help_text="SHA-256 of the hash before, the event's id and its digest.")

    class Meta:
        ordering: ClassVar = ["position"]

    def __str__(self) -> str:
        return f"{self.position}: {self.hash[:12]}"


class Turn(models.Model):
    """An event that waits for its link, inside its own transaction; committed rows there are none (audit.guards).

    PostgreSQL only: links are written last in a transaction, when nothing is left that could make it wait for another.
    """

    event_id = models.BigIntegerField(primary_key=True)

    def __str__(self) -> str:
        return str(self.event_id)


class Checkpoint(models.Model):
    """The chain's length and head at a moment, signed. A copy belongs outside this database."""

    size = models.BigIntegerField(unique=True, help_text="Links when it was made: the position of the last.")
    head = models.CharField(max_length=64, help_text="Hash of the last link.")
    root = models.CharField(max_length=64, help_text="Merkle root (RFC 6962) over the links' hashes.")
    at = models.DateTimeField()
    key_id = models.CharField(max_length=16, help_text="First characters of the SHA-256 of the public key.")
    signature = models.CharField(max_length=128, help_text="Ed25519 over the canonical JSON of the rest, hexadecimal.")

    class Meta:
        ordering: ClassVar = ["-size"]

    def __str__(self) -> str:
        return f"{self.size} events, {self.head[:12]}"


class Debt(models.Model):
    """A governed row was written and no event told of it yet. The next event of the transaction pays all of them.

    The database writes and deletes these rows. An unpaid one names an event that does not exist, and the foreign key,
    checked at commit, refuses the transaction: no governed write without its event, whoever writes.
    """

    table = models.CharField(max_length=63)
    event = models.ForeignKey(Event, on_delete=models.DO_NOTHING, related_name="+")

    def __str__(self) -> str:
        return self.table
