"""A new bundle in the old one's place takes over without a pause."""

import asyncio
import os

from keras_cascade.bundle.manifest import MANIFEST
from keras_cascade.serving.server_log import log

LONGEST_WAIT = 60.0


class Reloader:
    """Watches the path of a bundle.

    A bundle is replaced as a whole: `export(..., overwrite=True)` exchanges
    the folder, a deployment moves a link. The manifest says which teacher
    counts (`teacher/1`, `teacher/2`, ...), so a folder that appears beside
    it is none until a manifest lists its files. What is there is checked,
    loaded and run before it takes over; what was begun on the old teacher
    ends on it. Whatever cannot take over is refused, and tried again, as it
    may still be on its way.

    Args:
        path: path of the bundle, as the user gave it.
        load: function that returns a `ServedTeacher`; run in a thread.
        service: `TeacherService`.
        seconds: float, from one look to the next. Defaults to `2.0`.
    """

    def __init__(self, path, load, service, seconds=2.0):
        self._path = path
        self._load = load
        self._service = service
        self._seconds = seconds
        self._served = identity(path)
        self._refused = None

    async def run(self):
        """Looks again and again, less often at what was refused."""
        wait = self._seconds
        while True:
            await asyncio.sleep(wait)
            taken = await self.check()
            wait = self._seconds
            if taken is False:
                wait = min(2 * wait, LONGEST_WAIT)

    async def check(self):
        """Looks once.

        Returns:
            `None`: nothing new. `True`: a new bundle took over. `False`: a
            new one was refused.
        """
        found = identity(self._path)
        if found == self._served:
            return None
        if found is None:  # gone: the old one is in memory
            return self._refuse(found, "There is no bundle any more.")
        try:
            teacher = await asyncio.to_thread(self._load)
        except Exception as error:
            return self._refuse(found, f"{type(error).__name__}: {error}")
        if identity(self._path) != found:  # which one was loaded?
            await teacher.close()
            return self._refuse(found, "It was replaced while it was loaded.")
        if not teacher.same_task(self._service.teacher):
            await teacher.close()
            return self._refuse(
                found,
                "Its classes or inputs differ from those of the teacher that "
                "is served: devices would read its answers wrongly. Restart "
                "the server to serve it.",
            )
        old, self._service.teacher = self._service.teacher, teacher
        self._served, self._refused = found, None
        self._service.metrics.reloads.labels("taken over").inc()
        log("info", "reloaded", version=teacher.version)
        await old.close()
        return True

    def _refuse(self, found, why):
        if (found, why) != self._refused:  # each once
            self._refused = (found, why)
            self._service.metrics.reloads.labels("refused").inc()
            log("error", "reload_refused", why=why, path=str(self._path))
        return False


def identity(path):
    """What tells one bundle at a path from the next, or `None`.

    Args:
        path: path of a bundle.
    """
    try:
        folder, manifest = os.stat(path), os.stat(os.path.join(path, MANIFEST))
    except OSError:
        return None
    return (
        folder.st_dev, folder.st_ino,
        manifest.st_ino, manifest.st_mtime_ns, manifest.st_size,
    )  # fmt: skip
