# %% [markdown]
# # The cascade in a browser
#
# **Can a web page run the student, with the same decisions as Python, and what
# does it show when the server is away?** This tutorial serves a page with
# `keras-cascade serve --web`, opens it in Chromium, gives it pictures, compares
# its answers with `EdgeCascade`, and stops the server. It takes about a minute.
#
# It needs Chromium (`apt-get install chromium`), Playwright (`pip install
# playwright`), and the page itself, which a wheel contains and a checkout makes
# with `npm ci && npm run build` in `web/`.

# %%
import shutil

import keras_cascade as kc
from keras_cascade.serving import web_page

names = ("chromium", "chromium-browser", "google-chrome")
chromium = next(filter(None, map(shutil.which, names)), None)
if chromium is None or not web_page.FOLDER.is_dir():
    raise SystemExit("Chromium or the page of web/ is missing: see above.")

data = kc.datasets.load("fashion_mnist")
x, y = data.arrays("test", 60)
bundle = "../saved_models/fashion_mnist"

# %% [markdown]
# ## A server with a page
#
# `--web` serves a page, and the bundle's files for devices, beside the teacher.
# The page runs `student.tflite` in LiteRT.js, WebAssembly in the browser; the
# teacher is asked about what the student is not sure of. `--cors-origin none`
# lets no other page ask this server.

# %%
import contextlib

from keras_cascade.serving import ServerProcess

running = contextlib.ExitStack()
options = ["--web", "--cors-origin", "none"]
server = running.enter_context(
    ServerProcess(bundle, "server.log", options=options)
)
address = server.url.partition("/v1/")[0] + "/web/"

# %% [markdown]
# Playwright controls Chromium. Its simple interface runs in a thread of its
# own, as the notebook's has an event loop already.

# %%
from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import sync_playwright

thread = ThreadPoolExecutor(1)
playwright = thread.submit(sync_playwright().start).result()


KEEP_PIXELS = """
const read = CanvasRenderingContext2D.prototype.getImageData;
CanvasRenderingContext2D.prototype.getImageData = function (...box) {
  const image = read.apply(this, box);
  window.pixels = Array.from(image.data);
  return image;
};"""


def open_page():
    """Opens the page, and waits until the student is loaded."""
    browser = playwright.chromium.launch(
        executable_path=chromium, args=["--no-sandbox"]
    )
    page = browser.new_page(viewport={"width": 640, "height": 900})
    page.add_init_script(KEEP_PIXELS)
    page.goto(address)
    page.wait_for_selector("[data-ready]")
    return page


page = thread.submit(open_page).result()
print(thread.submit(page.title).result())

# %% [markdown]
# ## The same answers as in Python
#
# Each picture is uploaded, as a visitor does with a file. The page shows the
# answer and who gave it. It makes pictures fit with the browser's own filter,
# which is not Python's; so that both see the same numbers, a few lines of
# script keep those that the page has read.

# %%
import io

import numpy as np
from PIL import Image


def upload(row):
    """Gives the page a picture; returns name, source and what it read."""
    file = io.BytesIO()
    pixels = np.round(255 * row[..., 0]).astype("uint8")
    Image.fromarray(pixels).save(file, "PNG")
    before = page.locator("#count").inner_text()
    page.locator("#file").set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    page.wait_for_function(
        "before => document.getElementById('count').textContent !== before",
        arg=before,
    )
    name = page.locator("#label").inner_text()
    source = page.locator("#who").get_attribute("data-source")
    red = page.evaluate("pixels")[::4]  # of red, green, blue and opacity
    return name, source, np.array(red, "float32").reshape(row.shape) / 255


shown = [thread.submit(upload, row).result() for row in x]
names, sources, read = zip(*shown, strict=True)
with kc.runtime.EdgeCascade.load(bundle, server.url) as edge:
    expected = edge.predict(np.stack(read))
same = (np.array(sources) == expected.source) & (
    np.array(names) == np.array(expected.names)
)
print(f"{same.sum()} of {len(same)} answers and sources are Python's")
print(expected.source_counts)

# %% [markdown]
# A kept picture never leaves the page. For a delegated one it shows how many
# bytes were sent, and below the share and the mean cost so far. We keep a
# picture of the page with the input that the student is least sure of.

# %%
unsure = x[expected.score.argmin()]


def screenshot():
    return Image.open(io.BytesIO(page.screenshot()))


print(*thread.submit(upload, unsure).result()[:2])
for name in ("compared", "sent", "share"):
    print(
        f"{name}:", thread.submit(page.locator(f"#{name}").inner_text).result()
    )
online = thread.submit(screenshot).result()

# %% [markdown]
# ## The server stops
#
# The page stays, as the student is in it. A delegated picture gets what the
# chosen policy says: the student's answer, none, or a row of a queue that the
# browser keeps on disk.

# %%
running.close()
for policy in ("answer", "abstain", "queue"):
    thread.submit(page.select_option, "#policy", policy).result()
    print(policy, "->", *thread.submit(upload, unsure).result()[:2])
offline = thread.submit(screenshot).result()

# %% [markdown]
# ## The server is back
#
# On the same port, as the page asks where it came from. The queue is sent, and
# the late answer is the teacher's.

# %%
with ServerProcess(bundle, "server.log", port=server.port, options=options):
    send = page.get_by_role("button", name="Send the queue")
    late = page.locator("#late li")
    for _ in range(30):  # the page waits after failures before it asks again
        thread.submit(send.click).result()
        thread.submit(page.wait_for_timeout, 1000).result()
        if thread.submit(late.count).result():
            break
    print(thread.submit(late.first.inner_text).result())

# %% [markdown]
# ## Both states of the page
#
# Left, with the server: the score is below the threshold, and the teacher
# answered. Right, without: the same picture waits in the queue.

# %%
from IPython import display

size = (online.width + offline.width + 20, online.height)
both = Image.new("RGB", size, "gray")
both.paste(online, (0, 0))
both.paste(offline, (online.width + 20, 0))
both.save(file := io.BytesIO(), "PNG")
thread.submit(playwright.stop).result()
display.Image(file.getvalue())

# %% [markdown]
# **What to do next:** `keras-cascade serve BUNDLE --web` with a bundle of your
# own, [the npm package](../docs/browser.md) for a page of your own, and
# [deploy/](../deploy/README.md) for phones and microcontrollers.
