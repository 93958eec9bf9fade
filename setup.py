"""Winnow: a recommendation funnel as one gated TFX pipeline."""

from setuptools import find_packages, setup

setup(
    name="winnow",
    version="0.1.0",
    description="A recommendation funnel, trained, gated and shipped by one TFX pipeline.",
    python_requires=">=3.10,<3.11",
    packages=find_packages(exclude=["tests", "tests.*"]),
    package_data={"schemas": ["*/*.pbtxt"], "pipelines": ["configs/*.yaml", "*.html"]},
    # Ranges say what the code needs; requirements.lock says what is installed.
    install_requires=[
        "tfx>=1.16,<1.17",
        # Beam 2.66 drops dill, without which TensorFlow Transform fails to import.
        "apache-beam>=2.65,<2.66",
        "tensorflow>=2.16.2,<2.17",
        "tf-keras>=2.16,<2.17",
        "tensorflow-transform>=1.16,<1.17",
        "tensorflow-model-analysis>=0.47,<0.48",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "ml-metadata>=1.16,<1.17",
        "scann==1.3.2",
        # TensorFlow Serving's gRPC API, which `winnow serve` speaks; TFX brings both anyway.
        "tensorflow-serving-api>=2.16,<2.17",
        "grpcio",
        # Its REST API: an ASGI toolkit and its server, whose own dependencies TFX brings.
        "starlette>=1",
        "uvicorn>=0.54",
        "numpy<2",
        "scipy",
        "pyarrow>=10",
        "matplotlib",
        "pydantic>=2",
        "pyyaml",
        "rich",
        "typer",
    ],
    extras_require={
        "dev": ["pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "types-PyYAML"],
        # What `winnow bench index` measures ScaNN beside; nothing else imports them.
        "bench": ["hnswlib>=0.8,<0.9", "faiss-cpu>=1.15,<2"],
    },
    entry_points={"console_scripts": ["winnow=pipelines.cli:main"]},
)
