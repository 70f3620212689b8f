"""Which role describes a target: the search through delegations. Pure.

Uptane, full verification: "locate and download Targets metadata ... conducting a preorder
depth-first search through delegated roles" (TUF 5.6.7). A delegation covers a target if its path
pattern matches and, where it lists `hardwareIds`, the controller's hardware is among them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuf.api.metadata import Root, TargetFile, Targets

from vehicle_agent.refusals import Code, Refused
from vehicle_agent.trust.repository import RepositoryTrust
from vehicle_agent.trust.workflow import Workflow, need, want


@dataclass(frozen=True, slots=True)
class Located:
    """A target, the role that describes it, and the key ids that signed that role."""

    target: TargetFile
    role: str
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Visit:
    role: str
    delegator: Root | Targets
    depth: int


def locate(
    trust: RepositoryTrust, path: str, hardware_id: str | None = None
) -> Workflow[Located | None]:
    """The target `path`, as the first role in preorder that names it describes it.

    Begins at the verified top-level targets. With `hardware_id`, only delegations for that hardware
    are followed; without, `hardwareIds` is no field of ours. None: no role that was searched
    names it. Raises Refused: DELEGATION_MISSING (delegations there are, none covers it; or the file
    of one that does is missing; or there are too many), or as `RepositoryTrust.accept_delegated`.
    """
    open_visits = [_Visit("targets", trust.root, 0)]
    visited: set[str] = set()
    delegations = covering = 0
    while open_visits:
        visit = open_visits.pop()
        if visit.role in visited:
            continue
        if visit.role == "targets":
            targets, signed_by = trust.targets, trust.targets_signed_by
        else:
            if len(visited) > trust.rules.most_roles or visit.depth > trust.rules.deepest:
                raise Refused(
                    Code.DELEGATION_MISSING,
                    f"{trust.name} target {path[:64]!r}: not found in {trust.rules.most_roles} "
                    f"delegated roles, {trust.rules.deepest} deep",
                )
            targets, signed_by = yield from _delegated(trust, visit)
        visited.add(visit.role)
        described = targets.targets.get(path)
        if described is not None:
            return Located(described, visit.role, signed_by)
        delegations += targets.delegations is not None
        below, terminating = _covering(trust, visit, targets, path, hardware_id)
        covering += len(below)
        if terminating:
            open_visits.clear()
        open_visits.extend(reversed(below))
    if delegations and not covering:
        raise Refused(
            Code.DELEGATION_MISSING,
            f"{trust.name} target {path[:64]!r}: no delegation covers it"
            + ("" if hardware_id is None else f" for hardware {hardware_id[:32]!r}"),
        )
    return None


def _delegated(trust: RepositoryTrust, visit: _Visit) -> Workflow[tuple[Targets, tuple[str, ...]]]:
    if trust.described(visit.role) is None:
        raise Refused(
            Code.DELEGATION_MISSING,
            f"{trust.name} {visit.role[:64]!r}: the snapshot does not name this delegated role",
        )
    data = trust.stored(visit.role, visit.delegator)
    if data is None:
        data = yield from need(want(trust, visit.role), Code.DELEGATION_MISSING)
    return trust.accept_delegated(visit.role, data, visit.delegator)


def _covering(
    trust: RepositoryTrust,
    visit: _Visit,
    targets: Targets,
    path: str,
    hardware_id: str | None,
) -> tuple[list[_Visit], bool]:
    """The delegations of `targets` that cover the target, by priority, and whether one ends it."""
    below: list[_Visit] = []
    if targets.delegations is None:
        return below, False
    for name, terminating in targets.delegations.get_roles_for_target(path):
        role = targets.get_delegated_role(name)
        listed = role.unrecognized_fields.get("hardwareIds")
        if hardware_id is not None and not _is_for(trust, name, listed, hardware_id):
            continue
        below.append(_Visit(name, targets, visit.depth + 1))
        if terminating:
            return below, True
    return below, False


def _is_for(trust: RepositoryTrust, name: str, listed: object, hardware_id: str) -> bool:
    if listed is None:
        return True
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise Refused(
            Code.METADATA_MALFORMED,
            f"{trust.name}, delegation to {name[:64]!r}: hardwareIds is a list of texts",
        )
    return hardware_id in listed
