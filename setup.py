"""Package metadata: requirements, extras, licence and classifiers."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = {}
exec((HERE / "keras_cascade" / "version.py").read_text(), VERSION)

# Which package is required by what, and why: docs/decisions.md.
GRPC = ["grpcio>=1.70", "protobuf>=6.31"]
SERVE = [
    "fastapi>=0.115",
    *GRPC,
    "httptools>=0.6.4",
    "msgspec>=0.19",
    "orjson>=3.10",
    "prometheus-client>=0.20",
    "uvicorn>=0.34",
]
# The versions that resolve together. TensorFlow, not tensorflow-cpu: the
# optional packages pull TensorFlow itself.
BASE = [
    *SERVE,
    "ai-edge-litert==2.3.0",
    "circuitbreaker>=2.1",
    "cryptography>=42",
    "httpcore>=1.0",
    "jinja2>=3.1",
    "jsonschema>=4.20",
    "keras>=3.15.1,<3.16",
    "matplotlib>=3.8",
    "numpy>=2.0",
    "pillow>=10",
    "rich>=13",
    "scikit-learn>=1.7",
    "scipy>=1.11",
    "tenacity>=9.0",
    "tensorflow>=2.21,<2.22",
    "typer>=0.12",
    "wrapt>=1.16",
]
TEXT = ["keras-nlp==0.32.*", "tokenizers>=0.22"]
OPTIMIZE = [
    # Pins ai-edge-litert itself, to the version above.
    "litert-quantizer==0.11.0",
    "tensorflow-model-optimization==0.8.1",
    "tf-keras>=2.21,<2.22",
]
ONNX = ["onnxruntime>=1.31", "tf2onnx==1.17.0"]
TFDS = [
    "importlib_resources",  # tensorflow-datasets needs it, undeclared
    "tensorflow-datasets>=4.9.10",
]
PARQUET = ["pyarrow>=15"]
LLM = ["httpx>=0.27"]
FEATURES = [*TEXT, *OPTIMIZE, *ONNX, *TFDS, *PARQUET, *LLM]
TEST = [
    *FEATURES,
    "build>=1.2",
    "hypothesis>=6",
    "import-linter>=2.4",
    "ipykernel>=6.29",
    "ipywidgets>=8.1",
    "jax>=0.10.2,<0.11",
    "jedi>=0.19",
    "jupytext>=1.16",
    "keras-tuner>=1.4",
    "kserve==0.21.0",
    "mapie>=1.6,<2",
    "mypy>=1.15",
    "nbclient>=0.10",
    "playwright>=1.49",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.6",
    "tensorboard>=2.20",
    # For a teacher; the tests need no GPU.
    "torch==2.13.0",
    "tree-sitter>=0.24",
    "tree-sitter-swift>=0.7",
    # Every version is a pre-release, and every wheel is for Linux.
    "tflite-micro; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "tritonclient[grpc,http]>=2.50",
    "trustme>=1.2",
    "twine>=6.1",
]

setup(
    name="keras-cascade",
    version=VERSION["__version__"],
    description=(
        "A small model on the device, a large one in the cloud, and a gate "
        "that knows when to ask: selective distillation for Keras."
    ),
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The keras_cascade authors",
    project_urls={"Paper": "https://arxiv.org/abs/2110.10305"},
    keywords=[
        "cascade",
        "edge",
        "keras",
        "knowledge distillation",
        "model cascade",
        "selective prediction",
        "tensorflow",
        "tflite",
    ],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["keras_cascade", "keras_cascade.*"]),
    package_data={
        "keras_cascade": ["py.typed"],
        "keras_cascade.bundle": ["*.json"],
        "keras_cascade.export": ["*.jinja"],
        "keras_cascade.evaluation.report": ["*.css", "*.jinja", "*.js"],
        # Built by `npm run build` in web/: no part of a checkout.
        "keras_cascade.serving": ["page/*", "page/assets/*", "page/wasm/*"],
    },
    install_requires=BASE,
    extras_require={
        # Both are in every install; for `pip install --no-deps` and devices.
        "grpc": GRPC,
        "serve": SERVE,
        "text": TEXT,
        "optimize": OPTIMIZE,
        "onnx": ONNX,
        "tfds": TFDS,
        "parquet": PARQUET,
        "llm": LLM,
        "torch": ["torch>=2.2"],
        "test": TEST,
        "all": [*FEATURES, *TEST],
    },
    entry_points={
        "console_scripts": ["keras-cascade = keras_cascade.cli.main:main"]
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
