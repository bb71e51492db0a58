"""Every test of CPython's for executors: run as it is, run adapted, or left out, and why."""

from __future__ import annotations

from dataclasses import dataclass

from tests.conformance import adapt
from tests.conformance.adapt import Adapted

START_METHODS = ("fork", "forkserver", "spawn", "template")


@dataclass(frozen=True)
class AsItIs:
    """A test that runs unchanged."""


@dataclass(frozen=True)
class LeftOut:
    """A test that does not run.

    Attributes:
        reason: Why not. Where ours is named, it is in test_equivalents.py.
        methods: The start methods under which it does not.
    """

    reason: str
    methods: tuple[str, ...] = START_METHODS


AS_IS = AsItIs()

SUITES = (
    "InitializerMixin",
    "FailingInitializerMixin",
    "ProcessPoolShutdownTest",
    "WaitTests",
    "AsCompletedTests",
    "ProcessPoolExecutorTest",
    "ExecutorDeadlockTest",
)
"""What they make a class of for each start method, and we too."""

OTHER_CLASSES = {
    "ThreadPoolShutdownTest": "threads",
    "ThreadPoolWaitTests": "threads",
    "ThreadPoolExecutorTest": "threads",
    "FutureTests": "concurrent.futures.Future by itself, without an executor",
    "FailingInitializerResourcesTest": "runs their test_initializer with their executor",
}
"""Their other classes with tests, and what those are about."""

Verdict = AsItIs | Adapted | LeftOut

VERDICTS: dict[str, dict[str, Verdict]] = {
    "InitializerMixin": {"test_initializer": AS_IS},
    "FailingInitializerMixin": {
        "test_initializer": LeftOut(
            "waits for _broken; ours: test_an_initializer_that_raises_breaks_the_pool"
        ),
    },
    "ExecutorShutdownTest": {
        "test_run_after_shutdown": AS_IS,
        "test_interpreter_shutdown": adapt.IMPORTS_OURS_AND_IS_PATIENT,
        "test_submit_after_interpreter_shutdown": adapt.IMPORTS_OURS_AND_SAYS_OUR_WORDS,
        "test_hang_issue12364": AS_IS,
        "test_cancel_futures": adapt.STARTS_WARM,
        "test_hang_gh83386": adapt.IMPORTS_OURS_AND_NAMES_METHOD,
        "test_hang_gh94440": AS_IS,
    },
    "ProcessPoolShutdownTest": {
        "test_processes_terminate": LeftOut(
            "_processes; ours: test_workers_end_with_shutdown",
        ),
        "test_context_manager_shutdown": LeftOut(
            "ProcessPoolExecutor by name, _processes; ours: test_workers_end_with_the_block",
        ),
        "test_del_shutdown": LeftOut(
            "ProcessPoolExecutor by name, _executor_manager_thread, _call_queue; ours: "
            "test_a_forgotten_pool_finishes_and_ends",
        ),
        "test_shutdown_no_wait": LeftOut(
            "ProcessPoolExecutor by name, _executor_manager_thread, _call_queue; ours: "
            "test_shutdown_without_waiting_finishes_and_ends",
        ),
        "test_shutdown_gh_132969_case_1": LeftOut(
            "ProcessPoolExecutor by name, _executor_manager_thread; ours: "
            "test_who_is_shut_down_or_forgotten_finishes_with_a_worker_for_each_task"
        ),
        "test_shutdown_gh_132969_case_2": LeftOut("as test_shutdown_gh_132969_case_1"),
    },
    "WaitTests": {
        "test_20369": AS_IS,
        "test_first_completed": AS_IS,
        "test_first_completed_some_already_completed": AS_IS,
        "test_first_exception": AS_IS,
        "test_first_exception_some_already_complete": AS_IS,
        "test_first_exception_one_already_failed": AS_IS,
        "test_all_completed": AS_IS,
        "test_timeout": AS_IS,
    },
    "AsCompletedTests": {
        "test_no_timeout": AS_IS,
        "test_zero_timeout": AS_IS,
        "test_future_times_out": AS_IS,
        "test_duplicate_futures": AS_IS,
        "test_free_reference_yielded_future": AS_IS,
        "test_correct_timeout_exception_msg": AS_IS,
    },
    "ExecutorTest": {
        "test_submit": AS_IS,
        "test_submit_keyword": AS_IS,
        "test_map": AS_IS,
        "test_map_exception": AS_IS,
        "test_map_timeout": AS_IS,
        "test_map_buffersize_type_validation": adapt.SAYS_OUR_WORDS,
        "test_map_buffersize_value_validation": adapt.SAYS_OUR_WORDS,
        "test_map_buffersize": AS_IS,
        "test_map_buffersize_on_multiple_iterables": AS_IS,
        "test_map_buffersize_on_infinite_iterable": AS_IS,
        "test_map_buffersize_on_multiple_infinite_iterables": AS_IS,
        "test_map_buffersize_on_empty_iterable": AS_IS,
        "test_map_buffersize_without_iterable": AS_IS,
        "test_map_buffersize_when_buffer_is_full": AS_IS,
        "test_swallows_falsey_exceptions": AS_IS,
        "test_shutdown_race_issue12456": AS_IS,
        "test_no_stale_references": AS_IS,
        "test_max_workers_negative": AS_IS,
        "test_free_reference": AS_IS,
    },
    "ProcessPoolExecutorTest": {
        "test_max_workers_too_large": LeftOut("Windows"),
        "test_killed_child": LeftOut(
            "_processes, and wants a broken pool; ours: test_a_killed_worker_costs_its_task_alone"
        ),
        "test_map_chunksize": AS_IS,
        "test_traceback": adapt.CAUSE_IS_OURS,
        "test_ressources_gced_in_workers": AS_IS,
        "test_saturation": LeftOut("_max_workers, _processes; ours: test_saturation"),
        "test_idle_process_reuse_one": LeftOut(
            "_processes, and wants processes to start on demand, where WarmPool keeps all warm; "
            "ours: test_idle_workers_are_used_again"
        ),
        "test_idle_process_reuse_multiple": LeftOut("as test_idle_process_reuse_one"),
        "test_max_tasks_per_child": LeftOut(
            "_processes, and wants fork to be refused, which WarmPool can do; ours: "
            "test_max_tasks_per_child"
        ),
        "test_max_tasks_per_child_defaults_to_spawn_context": LeftOut(
            "_mp_context, and WarmPool's default is another: template"
        ),
        "test_max_tasks_early_shutdown": LeftOut(
            "skips itself; ours: test_max_tasks_per_child_with_early_shutdown", ("fork",)
        ),
        "test_max_tasks_per_child_pending_tasks_gh115634": LeftOut("skips itself", ("fork",)),
        "test_shutdown_no_wait_max_tasks_gh119592": LeftOut(
            "_executor_manager_thread; ours: "
            "test_who_is_shut_down_or_forgotten_finishes_with_a_worker_for_each_task"
        ),
        "test_gc_during_max_tasks_worker_exit_gh152967": LeftOut(
            "_executor_manager_thread, and wants the tasks of a forgotten pool to fail, which "
            "WarmPool finishes; as test_shutdown_no_wait_max_tasks_gh119592"
        ),
        "test_force_shutdown_during_max_tasks_worker_exit": LeftOut(
            "_force_shutting_down; ours: test_no_worker_follows_one_that_was_killed_with_its_pool"
        ),
        "test_failed_worker_replacement_breaks_pool": LeftOut(
            "replaces _spawn_worker; ours: test_a_worker_that_cannot_be_replaced_breaks_the_pool"
        ),
        "test_broken_process_pool_traceback": LeftOut(
            "_processes; ours: test_each_task_of_a_broken_pool_has_an_error_of_its_own"
        ),
        "test_terminate_workers": LeftOut("_force_shutdown; ours: test_terminate_workers"),
        "test_kill_workers": LeftOut("_force_shutdown; ours: test_kill_workers"),
        "test_force_shutdown_workers_invalid_op": LeftOut("_force_shutdown"),
        "test_force_shutdown_workers": LeftOut("_processes; ours: test_kill_workers"),
        "test_force_shutdown_workers_dead_workers": adapt.DIES,
        "test_force_shutdown_workers_not_started_yet": LeftOut(
            "wants no worker to be started before a task is submitted; ours: "
            "test_workers_that_are_still_to_be_started_are_none_after_the_end"
        ),
        "test_force_shutdown_workers_stops_pool": LeftOut("_processes; ours: test_kill_workers"),
        "test_python_finalization_error": LeftOut(
            "counts on the order in which ProcessPoolExecutor starts its threads"
        ),
    },
    "ExecutorDeadlockTest": {
        "test_error_at_task_pickle": AS_IS,
        "test_exit_at_task_unpickle": adapt.FAILS_IN_ARGUMENTS,
        "test_error_at_task_unpickle": adapt.FAILS_IN_ARGUMENTS,
        "test_crash_at_task_unpickle": adapt.DIES,
        "test_crash_during_func_exec_on_worker": adapt.DIES,
        "test_exit_during_func_exec_on_worker": AS_IS,
        "test_error_during_func_exec_on_worker": AS_IS,
        "test_crash_during_result_pickle_on_worker": adapt.DIES,
        "test_exit_during_result_pickle_on_worker": AS_IS,
        "test_error_during_result_pickle_on_worker": AS_IS,
        "test_error_during_result_unpickle_in_result_handler": adapt.FAILS_IN_RESULT,
        "test_exit_during_result_unpickle_in_result_handler": adapt.FAILS_IN_RESULT,
        "test_shutdown_deadlock": adapt.DIES_WHILE_THE_POOL_ENDS,
        "test_shutdown_deadlock_pickle": LeftOut(
            "_executor_manager_thread; ours: test_what_cannot_be_pickled_does_not_delay_the_end"
        ),
        "test_crash_big_data": adapt.DIES,
        "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": LeftOut(
            "replaces _ThreadWakeup and _ExecutorManagerThread"
        ),
    },
}

NOT_IN_EVERY_VERSION = {
    "test_broken_process_pool_traceback",
    "test_crash_big_data",
    "test_failed_worker_replacement_breaks_pool",
    "test_force_shutdown_during_max_tasks_worker_exit",
    "test_force_shutdown_workers",
    "test_force_shutdown_workers_dead_workers",
    "test_force_shutdown_workers_invalid_op",
    "test_force_shutdown_workers_not_started_yet",
    "test_force_shutdown_workers_stops_pool",
    "test_future_times_out",
    "test_gc_during_max_tasks_worker_exit_gh152967",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full",
    "test_hang_gh94440",
    "test_kill_workers",
    "test_map_buffersize",
    "test_map_buffersize_on_empty_iterable",
    "test_map_buffersize_on_infinite_iterable",
    "test_map_buffersize_on_multiple_infinite_iterables",
    "test_map_buffersize_on_multiple_iterables",
    "test_map_buffersize_type_validation",
    "test_map_buffersize_value_validation",
    "test_map_buffersize_when_buffer_is_full",
    "test_map_buffersize_without_iterable",
    "test_max_tasks_per_child_pending_tasks_gh115634",
    "test_python_finalization_error",
    "test_shutdown_gh_132969_case_1",
    "test_shutdown_gh_132969_case_2",
    "test_shutdown_no_wait_max_tasks_gh119592",
    "test_swallows_falsey_exceptions",
    "test_terminate_workers",
    "test_zero_timeout",
}
"""All others are: one that is missing was renamed, and its verdict has to follow."""
