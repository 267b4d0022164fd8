"""The server's log: one JSON object a line, nothing of what was asked."""

import datetime
import json
import logging
import re
import sys
import traceback
import uuid

LOGGER = logging.getLogger("keras_cascade.serving")
_PLAIN = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class JsonFormatter(logging.Formatter):
    """Formats a record, with the fields in its `extra={"fields": ...}`."""

    def format(self, record):
        """One line of JSON."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = "".join(
                traceback.format_exception(*record.exc_info)
            )
        return json.dumps(line, default=str)


def log(level, event, exc_info=None, **fields):
    """Writes one event.

    Args:
        level: str, such as `"info"`.
        event: str, one word.
        exc_info: exception whose traceback belongs to it. Defaults to
            `None`.
        **fields: what is to be known of it: numbers, names, ids.
    """
    LOGGER.log(
        logging.getLevelNamesMapping()[level.upper()],
        event,
        exc_info=exc_info,
        extra={"fields": fields},
    )


def set_up_logging(stream=None):
    """Sends the server's log and Uvicorn's to one stream, as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in (LOGGER.name, "uvicorn", "grpc"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING if name == "uvicorn" else logging.INFO)


def request_id(given):
    """A client's own id where it is plain, else a new one.

    Args:
        given: str or `None`, as the client sent it.
    """
    if given and _PLAIN.fullmatch(given):
        return given
    return uuid.uuid4().hex
