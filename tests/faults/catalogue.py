"""Every fault that nodemeter has to survive, and the tests that let it happen.

The list is RELIABILITY's. A test is named `file::function`, below `tests/`; that each of them
exists is tested.
"""

from collections.abc import Mapping, Sequence
from typing import Final

_ENDS = "integration/aggregator/ingest/test_ends.py"
_ONCE = "integration/aggregator/ingest/test_exactly_once.py"
_POISON = "integration/aggregator/ingest/test_poison.py"
_SLOW = "integration/aggregator/ingest/test_slow_database.py"
_COPIES = "integration/wire/test_copies.py"
_SPOOL = "unit/agent/test_spool.py"
_DAMAGE = "unit/agent/test_spool_damage.py"
_RUNS = "unit/agent/test_incarnations.py"
_GPU = "unit/agent/samplers/nvidia/test_driver.py"
_DEATH = "unit/agent/samplers/nvidia/test_death.py"
_KILLS = "faults/test_kills.py::test_random_kills_lose_and_double_nothing"

FAULTS: Final[Mapping[str, Sequence[str]]] = {
    "kill -9 of the agent, the aggregator or PostgreSQL at random points under load": [
        _KILLS,
        "faults/test_acks.py::test_a_kill_between_batch_and_commit_loses_nothing",
        "unit/agent/test_state_checkpoint.py::test_restarts_change_nothing",
        "integration/aggregator/rater/test_rounds.py::test_a_round_that_dies_has_done_nothing",
    ],
    "a network that delays, holds, cuts, half-closes, refuses or swallows": [_KILLS],
    "aggregator away for minutes": [
        "faults/test_away.py::test_an_aggregator_that_is_away_for_minutes_is_told_all",
    ],
    "aggregator away for days": [
        "faults/test_away.py::test_an_aggregator_that_is_away_for_days_is_told_all",
        "faults/test_backlog.py::test_what_is_fresh_does_not_wait_for_the_backlogs_of_others",
        "faults/scale/day_of_backlog.py::test_a_day_of_backlog_drains_in_time",
    ],
    "kill between commit and ack": [
        "faults/test_acks.py::test_a_kill_between_commit_and_ack_doubles_nothing",
        f"{_ONCE}::test_what_was_committed_but_not_acked_is_known_at_the_next_hello",
        f"{_SLOW}::test_an_unknown_outcome_is_resolved_by_the_mark",
    ],
    "slow database": ["faults/test_database.py::test_slow_commits_delay_and_change_nothing"],
    "pool exhausted: bounded memory, no ack, retry hint": [
        "faults/test_database.py::test_a_database_that_stands_still_costs_no_memory_and_no_usage",
        f"{_SLOW}::test_while_the_database_stands_still_agents_are_held_back",
    ],
    "spool: full disk, ENOSPC on write, fsync or rename": [
        "faults/test_full_disk.py::test_a_full_disk_costs_nothing_and_is_told_once",
        f"{_SPOOL}::test_a_full_disk_drops_nothing_and_resumes_by_itself",
        f"{_SPOOL}::test_a_disk_that_is_full_in_spite_of_its_promise",
    ],
    "spool: torn tail, flipped bit, zeroed page, truncated file": [
        "faults/test_spool_bytes.py::test_damage_at_any_offset_costs_at_most_the_frames_hit",
        f"{_DAMAGE}::test_a_torn_frame_that_was_never_sent_costs_nothing",
        f"{_DAMAGE}::test_a_flipped_bit_costs_one_frame",
    ],
    "wall clock set by an hour": [
        "faults/test_clocks.py::test_a_clock_that_is_set_changes_no_duration",
        f"{_RUNS}::test_a_clock_that_is_set_changes_no_duration",
    ],
    "wall clock set by ten years: far-future records quarantined": [
        "faults/test_clocks.py::test_usage_of_another_decade_is_set_aside_and_nothing_else",
        f"{_POISON}::test_instants_that_cannot_be_believed_are_set_aside",
    ],
    "suspend": [
        "faults/test_clocks.py::test_a_machine_that_sleeps_loses_no_time_and_sees_none",
        f"{_RUNS}::test_a_suspended_machine_loses_no_time_and_sees_none",
    ],
    "reboot": [
        "faults/test_clocks.py::test_a_reboot_ends_what_ran_and_counts_from_zero",
        "unit/agent/daemon/test_daemon.py::test_after_a_reboot_the_time_off_is_nobodys",
    ],
    "counter reset": [f"{_RUNS}::test_a_counter_that_began_again_is_counted_from_zero"],
    "cgroup name reuse": [
        "faults/test_clocks.py::test_a_reboot_ends_what_ran_and_counts_from_zero",
        f"{_RUNS}::test_a_cgroup_of_the_same_name_is_another_run",
    ],
    "job id reuse": [
        "faults/test_clocks.py::test_a_reboot_ends_what_ran_and_counts_from_zero",
        f"{_RUNS}::test_a_job_id_that_is_used_again_is_two_runs",
    ],
    "two agents with one identity, cloned spool": [
        f"{_COPIES}::test_two_agents_with_a_cloned_spool",
        f"{_COPIES}::test_two_agents_with_a_cloned_spool_and_one_machine_id",
        f"{_ONCE}::test_a_newer_connection_fences_the_older",
    ],
    "spool rolled back": [f"{_COPIES}::test_a_spool_rolled_back_to_an_older_copy"],
    "replay of old batches": [
        f"{_ONCE}::test_a_replayed_batch_is_acked_again_and_stored_once",
        f"{_ENDS}::test_a_repeat_of_what_a_restore_forgot_ends_the_connection",
    ],
    "same sequence with other content": [
        f"{_ONCE}::test_a_sequence_with_other_content_is_a_conflict",
    ],
    "malformed protobuf, huge ids, oversized message": [
        f"{_POISON}::test_what_cannot_be_parsed_ends_the_call_with_the_reason",
        f"{_POISON}::test_a_message_that_is_too_large_is_refused_by_its_size",
        f"{_POISON}::test_columns_of_unequal_length_set_the_whole_batch_aside",
    ],
    "negative, overflow": [
        "unit/aggregator/ingest/test_decode.py::test_a_faulty_record_is_set_aside_alone",
        f"{_POISON}::test_a_base_that_would_overflow_is_set_aside",
    ],
    "a driver that dies mid-run: allocation goes on, usage unobserved, never zero": [
        f"{_GPU}::test_a_lost_gpu_is_down_and_its_runs_are_unobserved",
        f"{_DEATH}::test_a_driver_that_dies_mid_run_leaves_the_time_unobserved",
        "unit/agent/test_accounts.py::test_a_lost_device_stays_allocated_and_its_rest_is_down",
        "unit/agent/samplers/ascend/test_sampler.py::test_a_dead_drivers_devices_are_down",
    ],
    "migration while agents stream": [
        "faults/test_database.py::test_a_migration_while_agents_stream_loses_nothing",
        "migration/test_migrate.py::test_a_migration_that_meets_a_deadlock_is_tried_again",
    ],
    "10,000 agents reconnecting at once": [
        "faults/test_reconnect.py::test_everybody_comes_back_and_nothing_is_lost_or_doubled",
        "integration/wire/test_pending.py::test_no_call_is_broken_off_while_the_loop_is_busy",
    ],
    "SIGTERM under load": [
        "faults/test_stop.py::test_a_stop_under_load_is_clean_and_loses_nothing",
        f"{_ONCE}::test_a_stop_stores_and_acks_what_was_taken",
    ],
    "database restored to an earlier copy": [
        "faults/test_database.py::test_a_restored_database_is_told_again",
        "unit/agent/test_uplink_session.py::test_a_restored_database_gets_everything_again",
    ],
}
