"""LiveModel: what is live now, as an artifact; resolved from the push destination, not from metadata.

TFX's resolver nodes leave FAILED executions where nothing is live yet, and open-source Kubeflow refuses
them; this is a plain component.
"""

import shutil

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Model

from components.flavours import (
    CONTENT_PROPERTY,
    compute_content_hash,
    live_folders,
    package_dir,
    package_folders,
)

VERSION_PROPERTY = "version"


@component
def LiveModel(
    live: OutputArtifact[Model],
    serving_dir: Parameter[str],
    version: Parameter[str],
    code_fingerprint: Parameter[str],
) -> None:
    """Copies the live version, or nothing where there is none.

    Args:
      live: its `VERSION_PROPERTY` is empty where nothing is live.
      serving_dir: the push destination.
      version: what `find_live_version` says; a parameter, so that a push runs this node again.
      code_fingerprint: see `pipelines.code_fingerprint`.
    """
    copy_live(live, serving_dir, version)


def copy_live(live: Artifact, serving_dir: str, version: str) -> None:
    """Copies a version of every flavour to the artifact; a later clean-up cannot take it from the run."""
    live.set_string_custom_property(VERSION_PROPERTY, version)
    if version:
        for flavour, source in live_folders(serving_dir, version).items():
            shutil.copytree(source, package_dir(live.uri, flavour), dirs_exist_ok=True)
        live.set_string_custom_property(CONTENT_PROPERTY, compute_content_hash(package_folders(live.uri)))
