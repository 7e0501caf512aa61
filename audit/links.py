"""Triggers that chain events and settle debts: whoever inserts an event, it gets its link, also from bulk and raw SQL.

SQLite lets one transaction write at a time, so the link is written at once, with the function SHA256 that Django adds.

PostgreSQL writes it at COMMIT, in two steps: a deferred trigger on the event notes a turn, and a deferred trigger on
the turn takes the chain's lock and writes the link. What a trigger defers while deferred triggers run comes after all
that were deferred before, so the lock is taken when every foreign key is checked: a transaction that holds it waits
for no other. Without the lock two transactions read the same last link, and the chain breaks.

The functions run as their owner with a fixed search path; nobody else may attach them to a table of their own. So the
role of the application needs no right to write links or debts (``manage.py audit_roles``).
"""

from __future__ import annotations

from dataclasses import dataclass

NO_EVENT = -1
"""The event that a debt names until an event pays it: there is none."""

CHAIN_LOCK = 0x6761746568
"""Key of the advisory lock on the chain's end."""


@dataclass(frozen=True)
class Standing:
    """A trigger written out for each database; an empty text: it does not need it."""

    name: str
    table: str
    on_sqlite: str
    on_postgresql: str

    def sqlite(self) -> list[str]:
        return [f'DROP TRIGGER IF EXISTS "{self.name}"', self.on_sqlite] if self.on_sqlite else []

    def postgresql(self) -> list[str]:
        drop = f'DROP TRIGGER IF EXISTS "{self.name}" ON "{self.table}"'
        return [drop, self.on_postgresql] if self.on_postgresql else []


def functions(schema: str) -> list[str]:
    """Statements that make what the triggers call on PostgreSQL; ``schema`` is a quoted name."""
    made = [
        (
            "audit_take_turn",
            "BEGIN INSERT INTO audit_turn (event_id) VALUES (NEW.id); RETURN NULL; END",
        ),
        (
            "audit_write_link",
            f"""
            DECLARE
                before record;
                sealed text;
            BEGIN
                PERFORM pg_advisory_xact_lock({CHAIN_LOCK});
                -- a statement of its own, so that it sees what was committed while we waited for the lock
                SELECT position, hash INTO before FROM audit_link ORDER BY position DESC LIMIT 1;
                SELECT digest INTO sealed FROM audit_event WHERE id = NEW.event_id;
                INSERT INTO audit_link (position, event_id, hash) VALUES (
                    COALESCE(before.position, 0) + 1,
                    NEW.event_id,
                    encode(sha256(convert_to(
                        COALESCE(before.hash, '') || ':' || NEW.event_id || ':' || sealed, 'UTF8'
                    )), 'hex')
                );
                DELETE FROM audit_turn WHERE event_id = NEW.event_id;
                RETURN NULL;
            END
            """,
        ),
        (
            "audit_owe",
            f"""
            BEGIN
                INSERT INTO audit_debt ("table", event_id) SELECT TG_TABLE_NAME, {NO_EVENT}
                WHERE NOT EXISTS (SELECT 1 FROM audit_debt WHERE "table" = TG_TABLE_NAME);
                RETURN NULL;
            END
            """,
        ),
        ("audit_pay", "BEGIN DELETE FROM audit_debt; RETURN NULL; END"),
        (
            "audit_refuse_debt",
            """
            BEGIN
                IF EXISTS (SELECT 1 FROM audit_debt WHERE id = NEW.id) THEN
                    RAISE EXCEPTION '%: this is governed, and no event tells of the change', NEW."table"
                    USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'every_write_leaves_its_event',
                    HINT = 'Call the verb, or record an event after the write, in the same transaction.';
                END IF;
                RETURN NULL;
            END
            """,
        ),
    ]
    statements = []
    for name, body in made:
        statements += [
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
            # Temporary tables would be looked at first: somebody could put one of their own before ours.
            f"SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$ {body} $$",
            f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC",
        ]
    return statements


TRIGGERS = (
    Standing(
        "chain_audit_event",
        "audit_event",
        """
        CREATE TRIGGER chain_audit_event AFTER INSERT ON audit_event FOR EACH ROW BEGIN
            INSERT INTO audit_link (position, event_id, hash) VALUES (
                COALESCE((SELECT position FROM audit_link ORDER BY position DESC LIMIT 1), 0) + 1,
                NEW.id,
                SHA256(
                    COALESCE((SELECT hash FROM audit_link ORDER BY position DESC LIMIT 1), '')
                    || ':' || NEW.id || ':' || NEW.digest
                )
            );
        END
        """,
        """
        CREATE CONSTRAINT TRIGGER chain_audit_event AFTER INSERT ON audit_event
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_take_turn()
        """,
    ),
    Standing(
        "chain_audit_turn",
        "audit_turn",
        "",
        """
        CREATE CONSTRAINT TRIGGER chain_audit_turn AFTER INSERT ON audit_turn
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_write_link()
        """,
    ),
    Standing(
        "paid_by_audit_event",
        "audit_event",
        "CREATE TRIGGER paid_by_audit_event AFTER INSERT ON audit_event FOR EACH ROW BEGIN DELETE FROM audit_debt; END",
        """
        CREATE TRIGGER paid_by_audit_event AFTER INSERT ON audit_event
        FOR EACH STATEMENT EXECUTE FUNCTION audit_pay()
        """,
    ),
    # Upper case: triggers fire in the order of their names, and this one says more than the foreign key's, RI_….
    Standing(
        "DEBT_is_refused",
        "audit_debt",
        "",
        """
        CREATE CONSTRAINT TRIGGER "DEBT_is_refused" AFTER INSERT ON audit_debt
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_refuse_debt()
        """,
    ),
)
