"""Users and projects, as answers and as bodies."""

from __future__ import annotations

import msgspec

from farebox_api.bodies import Input
from farebox_api.schemas.organizations import Name
from farebox_api.schemas.pages import Page
from farebox_api.schemas.values import Timestamp, optional_timestamp, timestamp
from farebox_ledger.store.projects import Project
from farebox_ledger.store.users import User


class UserAnswer(msgspec.Struct, frozen=True):
    """One user; `user` is what rows carry. `email` is null where nobody said it, and after erasing."""

    user: str
    organization: str
    email: str | None
    first_seen_at: Timestamp
    erased_at: Timestamp | None


class UserPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[UserAnswer]


class ProjectAnswer(msgspec.Struct, frozen=True):
    """One project; `project` is what rows carry, `name` what people call it."""

    project: str
    organization: str
    name: str | None
    first_seen_at: Timestamp


class ProjectPageAnswer(Page, frozen=True, kw_only=True):
    """One page of the list."""

    items: list[ProjectAnswer]


class ProjectInput(Input, frozen=True):
    """What changes of a project; null takes the name away."""

    name: Name | None


def user_answer(user: User, organization: str) -> UserAnswer:
    """Write a user."""
    return UserAnswer(
        user.user_ref, organization, user.email, timestamp(user.first_seen_us), optional_timestamp(user.erased_at_us)
    )


def project_answer(project: Project, organization: str) -> ProjectAnswer:
    """Write a project."""
    return ProjectAnswer(project.project, organization, project.name, timestamp(project.first_seen_us))
