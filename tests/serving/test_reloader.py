"""Reloader: a bundle that replaces the served one."""

import asyncio
import hashlib
import json
import os
import shutil
import threading

import numpy as np
import pytest

from keras_cascade.bundle import Bundle, new_signing_key, sign_bundle
from keras_cascade.bundle.manifest import seal
from keras_cascade.serving.http_application import http_application
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.reloader import Reloader
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.asgi_client import AsgiClient
from tests.helpers.bundle_exchange import replace_bundle

X = np.ones((1, 6), "float32")


@pytest.fixture
def path(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "bundle")
    return tmp_path / "bundle"


class Serving:
    """A service and its reloader, with the teachers of a test."""

    def __init__(self, path, run=None):
        self.limits, self.metrics = Limits(), ServerMetrics()
        self.runs = [run or (lambda inputs: inputs["input"][:, :4])]
        self.path = path
        self.service = TeacherService(
            self.load(), self.limits, metrics=self.metrics
        )
        self.reloader = Reloader(path, self.load, self.service)

    def load(self):
        """A teacher with the last of `runs`, on the checked bundle."""
        bundle = Bundle.load(self.path)
        return LoadedTeacher(bundle, self.runs[-1], self.limits, self.metrics)

    def reloads(self, outcome):
        return self.metrics.registry.get_sample_value(
            "keras_cascade_reloads_total", {"outcome": outcome}
        )


def test_requests_in_flight_end_on_the_old_teacher(path):
    go, began = threading.Event(), threading.Event()

    def old(inputs):
        began.set()
        if not go.wait(30):
            raise RuntimeError("never let go")
        return np.full((len(inputs["input"]), 4), 1.0, "float32")

    def new(inputs):
        return np.full((len(inputs["input"]), 4), 2.0, "float32")

    async def run():
        serving = Serving(path, old)
        before = serving.service.teacher
        tasks = [asyncio.create_task(before.logits({"input": X}))]
        await asyncio.to_thread(began.wait, 30)
        tasks += [asyncio.create_task(before.logits({"input": X}))]  # queued
        serving.runs.append(new)
        replace_bundle(path)
        check = asyncio.create_task(serving.reloader.check())
        while serving.service.teacher is before:
            await asyncio.sleep(0)
        after = await serving.service.teacher.logits({"input": X})
        assert not any(task.done() for task in tasks)
        go.set()
        assert await check is True
        assert await serving.reloader.check() is None
        return after, await asyncio.gather(*tasks), serving

    after, before, serving = asyncio.run(run())
    assert after[0, 0] == 2.0
    assert [one[0, 0] for one in before] == [1.0, 1.0]
    assert serving.service.teacher.version == "2"
    assert serving.reloads("taken over") == 1


def test_an_answer_states_the_teacher_that_computed_it(path):
    """A request that began before a reload ends with the old identity."""
    go, began = threading.Event(), threading.Event()

    def old(inputs):
        began.set()
        if not go.wait(30):
            raise RuntimeError("never let go")
        return np.full((len(inputs["input"]), 4), 1.0, "float32")

    async def run():
        serving = Serving(path, old)
        serving.runs.append(lambda inputs: inputs["input"][:, :4])
        app = http_application(serving.service)
        before = serving.service.teacher

        async def ask():
            answer = await AsgiClient.one(
                app,
                "POST",
                "/v2/models/teacher/infer",
                {"inputs": [{"name": "input", "datatype": "FP32",
                             "shape": [1, 6], "data": [1.0] * 6}]},
            )  # fmt: skip
            stated = answer.json()["parameters"]["teacher"]
            assert answer.headers["x-cascade-teacher"] == stated
            return stated

        first = asyncio.create_task(ask())
        await asyncio.to_thread(began.wait, 30)
        replace_bundle(path, _other_file)
        check = asyncio.create_task(serving.reloader.check())
        while serving.service.teacher is before:
            await asyncio.sleep(0)
        second = await ask()
        go.set()
        assert await check is True
        return before, serving.service.teacher, await first, second

    before, after, first, second = asyncio.run(run())
    assert before.identity != after.identity
    assert (first, second) == (before.identity, after.identity)


def _other_file(manifest, folder):
    """Another teacher of the same task: one more file."""
    extra = folder / "teacher" / "2" / "assets" / "extra"
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(b"")
    manifest["teacher"]["files"]["assets/extra"] = hashlib.sha256().hexdigest()


def broken_file(manifest, folder):
    (folder / "teacher" / "2" / "saved_model.pb").write_bytes(b"altered")


def folder_beside(manifest, folder):
    shutil.copytree(folder / "teacher" / "2", folder / "teacher" / "3")


def other_classes(manifest, folder):
    manifest["classes"] = manifest["classes"][::-1]


def other_inputs(manifest, folder):
    manifest["input"][0]["name"] = "other"


def no_manifest(manifest, folder):
    manifest.clear()


def another(manifest, folder):
    manifest["name"] = "another"


@pytest.mark.parametrize(
    "edit, why",
    [
        (broken_file, "was altered"),
        (folder_beside, "does not list"),
        (other_classes, "classes or inputs differ"),
        (other_inputs, "classes or inputs differ"),
        (no_manifest, "not a valid manifest"),
    ],
)
def test_what_cannot_take_over_is_refused(path, server_log, edit, why):
    async def run():
        serving = Serving(path)
        old = serving.service.teacher
        replace_bundle(path, edit)
        assert await serving.reloader.check() is False
        assert await serving.reloader.check() is False  # tried again
        assert serving.service.teacher is old
        await old.logits({"input": X})
        return serving

    serving = asyncio.run(run())
    (line,) = map(json.loads, server_log)  # said once
    assert (line["level"], line["event"]) == ("error", "reload_refused")
    assert why in line["why"]
    assert serving.reloads("refused") == 1


def test_a_bundle_that_came_while_the_first_was_loaded(path):
    """It is found, although the reloader never saw another one."""

    async def run():
        limits, metrics = Limits(), ServerMetrics()

        def load():
            return LoadedTeacher(
                Bundle.load(path),
                lambda inputs: inputs["input"][:, :4],
                limits,
                metrics,
            )

        service = TeacherService(load(), limits, metrics=metrics)
        old = service.teacher
        replace_bundle(path)  # before there is a reloader
        reloader = Reloader(path, load, service)
        assert await reloader.check() is True
        assert service.teacher is not old
        assert service.teacher.version == "2"
        assert await reloader.check() is None

    asyncio.run(run())


def test_a_manifest_that_is_written_in_place(path):
    """Of the same size and with the time of the one before."""

    async def run():
        serving = Serving(path)
        manifest = path / "manifest.json"
        before = manifest.stat()
        text = manifest.read_text()
        manifest.write_text(text.replace('"blobs"', '"globs"'))
        content = json.loads(manifest.read_text())
        content["sha256"] = seal(content)
        manifest.write_text(json.dumps(content, indent=2) + "\n")
        os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert manifest.stat().st_size == before.st_size
        assert await serving.reloader.check() is True
        assert await serving.reloader.check() is None

    asyncio.run(run())


def test_a_bundle_with_another_signature_is_refused(path, tmp_path, server_log):
    key, other = tmp_path / "key", tmp_path / "other"
    public = new_signing_key(key)
    new_signing_key(other)
    sign_bundle(path, key)

    async def run():
        serving = Serving(path)
        old = serving.service.teacher

        def load():
            bundle = Bundle.load(path, public_key=public)
            return LoadedTeacher(
                bundle, serving.runs[-1], serving.limits, serving.metrics
            )

        serving.reloader._load = load
        replace_bundle(path, another)  # with the old signature
        assert await serving.reloader.check() is False
        sign_bundle(path, other)
        assert await serving.reloader.check() is False
        (path / "manifest.json.sig").unlink()
        assert await serving.reloader.check() is False
        assert serving.service.teacher is old
        sign_bundle(path, key)
        assert await serving.reloader.check() is True

    asyncio.run(run())
    whys = [line["why"] for line in map(json.loads, server_log[:2])]
    assert "not signed with the key expected" in whys[0]
    assert "is not signed." in whys[1]


def test_a_bundle_that_is_gone_stays_in_memory_and_may_come_back(path):
    async def run():
        serving = Serving(path)
        aside = path.rename(path.with_name("aside"))
        assert await serving.reloader.check() is False
        await serving.service.teacher.logits({"input": X})
        aside.rename(path)
        assert await serving.reloader.check() is None  # the same one

    asyncio.run(run())


def test_what_is_replaced_while_it_is_loaded_is_not_served(path):
    async def run():
        serving = Serving(path)
        old = serving.service.teacher
        load = serving.load

        def slow_load():
            teacher = load()
            replace_bundle(path, another)
            return teacher

        replace_bundle(path)
        serving.reloader._load = slow_load
        assert await serving.reloader.check() is False
        assert serving.service.teacher is old
        serving.reloader._load = load
        assert await serving.reloader.check() is True

    asyncio.run(run())
