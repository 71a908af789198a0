"""Ships `kws`; Beam's workers install it too (`--setup_file ./setup.py`), without TensorFlow."""

import pathlib

from setuptools import find_packages, setup

# What `kws prepare` needs: Beam's workers install this and nothing else.
BASE = [
    "apache-beam>=2.65,<3",
    "google-crc32c>=1.5",
    "numpy>=1.26",
    "pyarrow>=15",
    "requests>=2.31",
    "scipy>=1.11",
    "soundfile>=0.12",
    "soxr>=0.3.7",
    "tqdm>=4.60",
    "tyro>=0.9",
    "xxhash>=3.0",
]
TRAIN = [
    "keras>=3.8",
    "matplotlib>=3.8",
    "tensorboard>=2.18",
    "tensorflow>=2.18",
    # No wheel past Python 3.12.
    "tensorflow-io>=0.37; python_version < '3.13'",
]
ONNX = ["onnx>=1.16", "onnxruntime>=1.18", "tf2onnx>=1.17"]
DEV = [
    "hypothesis>=6.100",
    "librosa>=0.10",
    "mypy>=1.10",
    "pandas>=2.2",
    "pytest>=8",
    "pytest-xdist>=3.5",
    "ruff>=0.6",
    "tensorflow-datasets>=4.9.6",
    "uv>=0.5",
]

setup(
    name="kws-pipeline",
    version="0.1.0",
    description="Keyword spotting: recordings to TFRecords with Apache Beam, then a Keras CNN",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["kws_model*", "pipelines*"]),
    python_requires=">=3.11,<3.14",
    install_requires=BASE,
    extras_require={
        "train": TRAIN,
        "gpu": [*TRAIN, "tensorflow[and-cuda]>=2.18"],
        "gcp": ["apache-beam[gcp]"],
        "aws": ["apache-beam[aws]"],
        # GPL-3.0 libraries and voices: never a dependency of the rest.
        "synth": ["espeakng-loader>=0.2.4"],
        "onnx": [*TRAIN, *ONNX],
        "dev": [*TRAIN, *ONNX, *DEV],
    },
    entry_points={"console_scripts": ["kws = kws_model.cli:main"]},
)
