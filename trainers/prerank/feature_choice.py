"""Who sees what: student and control both sides, a teacher what its form adds."""

from collections.abc import Sequence

from schemas import features as f
from trainers.preprocessing import EncodedFeature
from trainers.prerank.config import ScorerConfig, TeacherConfig


def select_features(features: Sequence[EncodedFeature], config: ScorerConfig) -> tuple[EncodedFeature, ...]:
    """What a scorer of this configuration sees of what the Transform graph made.

    Raises:
      ValueError: if the form needs privileged features and the schema has none, or a side has no feature.
    """
    roles = {f.Role.QUERY, f.Role.CANDIDATE}
    if isinstance(config, TeacherConfig):
        if config.form != "pfd":
            roles.add(f.Role.CROSS)
        if config.form != "md":
            roles.add(f.Role.PRIVILEGED)
            if f.CONVERTED in config.tasks:
                roles.add(f.Role.PRIVILEGED_POST_EVENT)
    found = tuple(x for x in features if x.role in roles and x.group not in config.disabled_groups)
    for role in (f.Role.QUERY, f.Role.CANDIDATE):
        if not any(x.role is role for x in found):
            raise ValueError(
                f"disabled_groups {list(config.disabled_groups)} leave the {role.value} side no feature; "
                "leave at least one group of its features on"
            )
    if f.Role.PRIVILEGED in roles and not any(x.role is f.Role.PRIVILEGED for x in found):
        raise ValueError(
            "prerank_teacher.form 'pfd' and 'pfd_md' need privileged features, and there is none: mark some "
            "in the schema (role=privileged), leave their groups on, or set the form to 'md', a bigger model "
            "on the student's features"
        )
    return found
