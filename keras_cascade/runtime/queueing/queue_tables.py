"""Tables of the queue's file, and their upgrade from version 1."""

from __future__ import annotations

import sqlite3

from keras_cascade.runtime.queueing.queued_row import checksum_or_none

#: Conditions on rows, as they stand in the indexes.
WAITING = "logits IS NULL AND dead IS NULL"
DEAD = "dead IS NOT NULL"
HANDED_OUT = (
    "(logits IS NOT NULL AND dead IS NULL) "
    "OR (dead IS NOT NULL AND reported = 0)"
)
#: Columns of a stored row, as `StoredRow` takes them.
COLUMNS = (
    "seq, id, inputs, score, probabilities, operating_point, tries, logits, "
    "dead, refusal, checksum, answer_checksum"
)
PUT_ASIDE = "UPDATE rows SET dead = ?, refusal = ?, reported = 0"
PUT_BACK = (
    "UPDATE rows SET dead = NULL, refusal = NULL, reported = 0, tries = 0, "
    "logits = NULL, answer_checksum = NULL"
)
TABLES = (
    """CREATE TABLE IF NOT EXISTS rows (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        bytes INTEGER NOT NULL,
        inputs BLOB NOT NULL,
        score REAL,
        probabilities BLOB NOT NULL,
        operating_point TEXT NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        logits BLOB,
        refusal TEXT,
        checksum BLOB,
        answer_checksum BLOB,
        dead TEXT,
        reported INTEGER NOT NULL DEFAULT 0
    )""",
    f"""CREATE INDEX IF NOT EXISTS waiting ON rows (tries, seq, id)
        WHERE {WAITING}""",
    f"""CREATE INDEX IF NOT EXISTS answered ON rows (seq, id)
        WHERE {HANDED_OUT}""",
    f"CREATE INDEX IF NOT EXISTS dead ON rows (seq, id) WHERE {DEAD}",
    # Kept by the database itself: counting would read every input again.
    "CREATE TABLE IF NOT EXISTS totals (rows INTEGER, bytes INTEGER)",
    """INSERT INTO totals SELECT 0, 0
        WHERE NOT EXISTS (SELECT * FROM totals)""",
    """CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON rows BEGIN
        UPDATE totals SET rows = rows + 1, bytes = bytes + NEW.bytes;
    END""",
    """CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON rows BEGIN
        UPDATE totals SET rows = rows - 1, bytes = bytes - OLD.bytes;
    END""",
)


def upgrade_queue(db: sqlite3.Connection) -> None:
    """Brings the tables of version 1 to version 2.

    Rows get the checksums of what they hold; rows that the teacher refused
    become dead letters.
    """
    for column in (
        "checksum BLOB",
        "answer_checksum BLOB",
        "dead TEXT",
        "reported INTEGER NOT NULL DEFAULT 0",
    ):
        db.execute(f"ALTER TABLE rows ADD COLUMN {column}")
    db.execute("DROP INDEX IF EXISTS waiting")
    db.execute("DROP INDEX IF EXISTS answered")
    db.execute("UPDATE rows SET dead = 'refused' WHERE refusal IS NOT NULL")
    numbers = db.execute("SELECT seq FROM rows").fetchall()
    for (seq,) in numbers:
        row_id, raw, score, probabilities, point, logits = db.execute(
            "SELECT id, inputs, score, probabilities, operating_point, logits "
            "FROM rows WHERE seq = ?",
            (seq,),
        ).fetchone()
        # No checksum of a row that is damaged already.
        sums = (
            checksum_or_none(row_id, raw, score, probabilities, point),
            None if logits is None else checksum_or_none(row_id, logits),
        )
        db.execute(
            "UPDATE rows SET checksum = ?, answer_checksum = ? WHERE seq = ?",
            (*sums, seq),
        )
