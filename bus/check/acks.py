"""What share groups keep: `groups/GROUP.acks` must verify in both places, be of a group that is
there, and say nothing that contradicts itself."""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from bus.check.committed import GroupOffsets
from bus.check.damage import Findings
from bus.check.truth import read_object
from bus.directory import BusDirectory
from bus.kept_acks import SUFFIX, believed
from bus.twofold import COPY_SUFFIX


def check_acks(directory: BusDirectory, groups: Iterable[GroupOffsets], findings: Findings) -> None:
    """Check every file of acknowledgements."""
    known = {group.name: group for group in groups}
    for file in acks_files(directory):
        where = Findings(f"groups/{file}")
        _check(directory, file, known, where)
        if file in acks_files(directory):  # else its group was deleted meanwhile
            findings.damages.extend(where.damages)


def _check(
    directory: BusDirectory, file: str, known: Mapping[str, GroupOffsets], where: Findings
) -> None:
    content = read_object(directory, where.file, where)
    if content is None:
        return
    name = unquote(file.removesuffix(SUFFIX))
    group = known.get(name)
    if group is None:
        if not (directory.groups_path / f"{file.removesuffix(SUFFIX)}.offsets").exists():
            where.add(0, f"there is no group {name!r}")
        return
    try:
        believed(content, name, group.group_id)
    except ValueError as error:
        where.add(0, str(error))


def acks_files(directory: BusDirectory) -> list[str]:
    """Their names, also of one that only a copy is left of."""
    root = directory.groups_path
    found = (path.name.removesuffix(COPY_SUFFIX) for path in root.glob(f"*{SUFFIX}*"))
    return sorted({name for name in found if name.endswith(SUFFIX) and name[0] != "."})
