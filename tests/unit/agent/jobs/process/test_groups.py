"""Which run a process is of: trees of different runs never overlap, and nothing is hidden."""

from hypothesis import given
from hypothesis import strategies as st

from agent.jobs.process.groups import Groups, JobOf, Member, roots_of

ALICE, BOB, ROOT = 1000, 1001, 0


class Forest:
    """Processes by number; a member names a job, the others are only in between."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.parents: dict[int, int] = {}
        self.groups = Groups()

    def add(self, pid: int, parent: int, uid: int = ALICE, job: str | None = None) -> None:
        self.parents[pid] = parent
        if job is not None:
            self.members[pid] = Member(
                pid=pid, start=pid, parent=parent, uid=uid, job_id=job, words={}
            )

    def end(self, pid: int) -> None:
        self.members.pop(pid, None)
        self.parents.pop(pid, None)

    def runs(self) -> dict[JobOf, set[int]]:
        assigned = self.groups.assign(self.members, self.parents)
        return {job: {member.pid for member in members} for job, members in assigned.items()}


def test_a_job_of_each_account_is_a_run() -> None:
    """The same id of two users is two runs."""
    forest = Forest()
    forest.add(10, 1, ALICE, "j")
    forest.add(11, 10, ALICE, "j")
    forest.add(20, 1, BOB, "j")
    assert forest.runs() == {("j", ALICE): {10, 11}, ("j", BOB): {20}}


def test_below_a_users_process_all_is_that_users_run() -> None:
    """Another id, another account, or something in between: it is in that tree's figures."""
    forest = Forest()
    forest.add(10, 1, ALICE, "a")
    forest.add(11, 10, ALICE, "b")
    forest.add(12, 11)
    forest.add(13, 12, ROOT, "c")
    forest.add(14, 13, BOB, "d")
    assert forest.runs() == {("a", ALICE): {10, 11, 13, 14}}


def test_roots_launcher_is_of_no_run() -> None:
    """It starts the user's processes with the job's variables; its other children stay."""
    forest = Forest()
    forest.add(10, 1, ROOT, "j")
    assert forest.runs() == {("j", ROOT): {10}}
    forest.add(11, 10)
    forest.add(12, 11, ALICE, "j")
    forest.add(13, 10, ROOT, "j")
    assert forest.runs() == {("j", ALICE): {12}, ("j", ROOT): {13}}
    forest.end(12)
    assert forest.runs() == {("j", ROOT): {13}}


def test_roots_jobs_in_roots_job_are_jobs() -> None:
    """A cluster where all run as root, and a scheduler that was started from a job's shell."""
    forest = Forest()
    forest.add(10, 1, ROOT, "shell")
    forest.add(20, 10, ROOT, "a")
    forest.add(21, 20, ROOT, "a")
    forest.add(30, 10, ROOT, "b")
    assert forest.runs() == {("a", ROOT): {20, 21}, ("b", ROOT): {30}}


def test_who_was_told_once_stays_when_its_parent_ends() -> None:
    """Else what it has used would be billed again, as another run's."""
    forest = Forest()
    forest.add(10, 1, ALICE, "a")
    forest.add(11, 10)
    forest.add(12, 11, ALICE, "b")
    before = forest.runs()
    forest.end(11)
    forest.end(10)
    forest.add(13, 12, ALICE, "b")
    assert before == {("a", ALICE): {10, 12}}
    assert forest.runs() == {("a", ALICE): {12, 13}}


def test_a_number_that_comes_again_is_placed_anew() -> None:
    """Nothing is remembered of the one before."""
    forest = Forest()
    forest.add(10, 1, ALICE, "a")
    forest.add(11, 10, ALICE, "b")
    forest.runs()
    forest.end(11)
    forest.add(11, 1, ALICE, "c")
    assert forest.runs() == {("a", ALICE): {10}, ("c", ALICE): {11}}


def test_parents_that_go_round_in_a_circle_end_the_search() -> None:
    """Numbers come again, and a table that is read entry by entry may hold anything."""
    forest = Forest()
    for pid, parent in ((10, 12), (11, 10), (12, 11)):
        forest.add(pid, parent, ALICE, "a")
    forest.add(13, 13, ALICE, "b")
    assert forest.runs() == {("a", ALICE): {10, 11, 12}, ("b", ALICE): {13}}


births = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from([ROOT, ALICE, BOB]),
        st.sampled_from([None, "a", "b"]),
        st.booleans(),
    ),
    max_size=30,
)


@given(births)
def test_no_tree_of_a_run_lies_in_another_ones(
    born: list[tuple[int, int, str | None, bool]],
) -> None:
    """However they are forked and looked at in between: one process is in at most one figure."""
    forest = Forest()
    for number, (above, uid, job, is_look) in enumerate(born, start=100):
        forest.add(number, 100 + above if 100 + above < number else 1, uid, job)
        if is_look:
            forest.runs()
    assigned = forest.groups.assign(forest.members, forest.parents)
    roots = {pid: job for job, members in assigned.items() for pid in roots_of(members)}
    for pid in forest.parents:
        owners: set[JobOf] = set()
        each = pid
        while each in forest.parents:
            owners |= {roots[each]} & set(assigned) if each in roots else set()
            each = forest.parents[each]
        assert len(owners) <= 1
    users = [member for member in forest.members.values() if member.uid != ROOT]
    told = {member.pid for members in assigned.values() for member in members}
    assert all(member.pid in told for member in users)
