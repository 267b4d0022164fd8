"""Hot reload: a new bundle replaces the served one without downtime."""

import asyncio
import hashlib
from pathlib import Path

from keras_cascade.bundle import BundleError
from keras_cascade.bundle.manifest import MANIFEST, manifest_content
from keras_cascade.serving.server_log import log


class Reloader:
    """Polls the path of a bundle and replaces the service's teacher.

    A bundle is replaced as a whole: `export(..., overwrite=True)` exchanges
    the folder, a deployment moves a link. The manifest names the teacher's
    folder (`teacher/1`, `teacher/2`, ...), so a folder that appears beside
    it has no effect until a manifest lists its files. A new bundle is
    checked, loaded and run before it takes over; requests that began on the
    old teacher end on it. A bundle that cannot take over is refused, and
    tried again, as it may still be copied. Bundles are distinguished by the
    hash of their manifests, which is that of the teacher's own files and of
    everything else: one that came while the first was loaded is found too.

    Args:
        path: path of the bundle, as the user wrote it: a link is followed
            anew each time.
        load: function that returns a `LoadedTeacher`; run in a thread.
        service: `TeacherService`.
        seconds: float, between two checks. Defaults to `2.0`.
    """

    def __init__(self, path, load, service, seconds=2.0):
        self._path = path
        self._load = load
        self._service = service
        self._seconds = seconds
        self._refused = None

    async def run(self):
        """Checks until cancelled, at half the rate after a rejected bundle."""
        interval = self._seconds
        while True:
            await asyncio.sleep(interval)
            refused = await self.check() is False
            interval = (2 if refused else 1) * self._seconds

    async def check(self):
        """Checks the path once.

        Returns:
            `None`: nothing new. `True`: a new bundle took over. `False`: a
            new one was refused.
        """
        current = _identity(self._path)
        if current == self._service.teacher.manifest_sha256:
            return None
        if current is None:  # the old one stays in memory
            return self._refuse(current, "There is no bundle any more.")
        try:
            teacher = await asyncio.to_thread(self._load)
        except Exception as error:
            return self._refuse(current, f"{type(error).__name__}: {error}")
        # Replaced during `load`: what was loaded is whole, and outdated.
        if not teacher.manifest_sha256 == current == _identity(self._path):
            await teacher.close()
            return self._refuse(current, "It was replaced while it was loaded.")
        if not teacher.same_task(self._service.teacher):
            await teacher.close()
            return self._refuse(
                current,
                "Its classes or inputs differ from those of the teacher that "
                "is served: devices would read its answers wrongly. Restart "
                "the server to serve it.",
            )
        old, self._service.teacher = self._service.teacher, teacher
        self._refused = None
        self._service.metrics.reloads.labels("taken over").inc()
        log("info", "reloaded", version=teacher.version)
        await old.close()
        return True

    def _refuse(self, bundle_identity, why):
        if (bundle_identity, why) != self._refused:  # logged once each
            self._refused = (bundle_identity, why)
            self._service.metrics.reloads.labels("refused").inc()
            log("error", "reload_refused", why=why, path=str(self._path))
        return False


def _identity(path):
    """Returns the SHA-256 of a bundle's manifest; `None` without a bundle."""
    try:
        raw = manifest_content(Path(path, MANIFEST))
    except BundleError:
        return None
    return hashlib.sha256(raw).hexdigest()
