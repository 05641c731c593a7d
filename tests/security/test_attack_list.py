"""The list of attacks is complete: what is known to be tried, and where each item is tested.

An item names attacks of the suite (`fs.read_key`, `S01`), or tests by their names.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commandcenter.testing.attacks import suite
from commandcenter.testing.attacks.inside import ATTACKS
from commandcenter.testing.attacks.planted import PLANTED
from commandcenter.testing.workspaces import WorkspacesContract

ITEMS: dict[str, tuple[str, ...]] = {
    # Files
    "read the user's keys and the host's passwords": ("fs.read_key", "fs.read_shadow"),
    "read another task's files": (
        *("fs.read_other_task", "test_another_tasks_uncommitted_work_is_in_no_result"),
    ),
    "list siblings": ("fs.list_tasks",),
    "write home, sibling, /usr/local, /etc": (
        *("fs.write_home", "fs.write_other_task", "fs.write_usr", "fs.write_etc"),
        "test_only_its_own_places_can_be_written",
    ),
    "remount and mount": ("fs.remount", "fs.mount", "kernel.mount_by_parts"),
    "see the host's /tmp": ("fs.host_tmp",),
    "leave a chroot": ("fs.leave_chroot",),
    "damage by a hard link": ("fs.hard_link", "fs.shared_objects"),
    "symbolic links out": (
        *("fs.follow_link", "R02", "R03", "test_a_planted_link_does_not_lead_our_writing_out"),
        "test_a_link_swapped_in_while_reading_leaks_nothing",
    ),
    "pipes and devices as a result": (
        *("R04", "test_a_result_is_read_only_from_a_plain_file_of_a_bounded_size"),
        "test_what_cannot_be_taken_is_left_out_and_named",
    ),
    "a sparse file of a terabyte": ("fs.huge_file", "test_what_is_dangerous_is_refused_in_words"),
    "200,000 files": ("test_two_hundred_thousand_files_are_refused_and_removed",),
    "a setuid file": ("R10", "kernel.setuid_program"),
    "device nodes and the raw disk": ("fs.device_node", "fs.raw_disk"),
    "unremovable trees": ("test_leaving_ends_and_removes_everything",),
    # Processes and kernel
    "/proc of others": (
        *("proc.root_folder", "proc.environment", "proc.any_environment", "proc.descriptors"),
        *("proc.any_command_line", "proc.current_folder"),
    ),
    "core_pattern and other settings": ("kernel.core_pattern", "kernel.settings"),
    "cgroups": ("kernel.cgroup", "kernel.release_agent"),
    "trace and read memory": ("proc.trace", "proc.read_memory"),
    "kill the orchestrator, everybody, the group": (
        *("proc.kill", "test_a_signal_to_everybody_reaches_nobody_outside"),
        "test_a_signal_to_its_group_ends_only_the_command",
    ),
    "what is inherited": (
        *("proc.inherited_descriptors", "proc.own_environment"),
        *("test_the_environment_is_built_from_nothing",),
        "test_a_command_inherits_no_descriptor_of_ours",
    ),
    "type into the terminal": ("kernel.terminal_input",),
    "user namespaces": ("kernel.user_namespace", "kernel.clone_namespace"),
    "dangerous system calls": (
        *("kernel.bpf", "kernel.io_uring", "kernel.keyctl", "kernel.add_key", "kernel.module"),
        *("kernel.request_key", "kernel.userfaultfd", "kernel.perf_events", "kernel.kexec"),
        *("kernel.reboot", "kernel.clock", "kernel.file_handle"),
        "test_a_dangerous_call_is_refused",
    ),
    "odd sockets": (
        *("kernel.packet_socket", "kernel.virtual_socket", "kernel.crypto_socket"),
        *("kernel.raw_socket", "kernel.socket_pair"),
    ),
    "numbers of other machines": ("kernel.x32", "kernel.32_bit"),
    "rights": ("kernel.capabilities", "kernel.new_privileges", "kernel.no_filter"),
    "the kernel's log": ("fs.kernel_log",),
    "what processes share by key": (
        *("ipc.shared_memory", "ipc.message_queue", "ipc.semaphores", "ipc.dev_shm"),
    ),
    # Network
    "the orchestrator's port": ("net.loopback", "net.host_address"),
    "the internet and names": ("net.internet", "net.datagram"),
    "hosts that are not allowed": (
        *("test_what_the_policy_names_is_reached_and_nothing_else",),
        *("test_an_address_is_no_name_in_whatever_spelling",),
        *("test_what_only_looks_like_it_is_refused",),
        *("test_a_request_with_a_trick_goes_nowhere_and_is_logged",),
    ),
    "names that lead inside": (
        *("test_an_allowed_name_that_leads_inside_is_refused",),
        *("test_a_name_that_leads_elsewhere_at_a_second_look_is_looked_up_once",),
    ),
    "sockets with and without a place": (
        *("net.abstract_socket", "net.container_engine", "net.ssh_agent"),
    ),
    "ways around what stands in for a network of one's own": (
        "test_every_way_leads_there_for_a_process_of_the_host_and_none_from_within",
        "test_a_port_that_a_command_has_serves_nobody_else_on_the_machine",
        "test_what_reaches_others_is_refused_where_nothing_is_ones_own",
    ),
    "take the orchestrator's port": ("test_a_port_that_is_taken_inside_is_free_outside",),
    "more than the model by the gateway": (
        *("test_nothing_but_model_calls_passes", "test_without_model_access_nothing_answers"),
        "test_the_real_key_replaces_whatever_the_agent_sends",
    ),
    # Using up
    "fork bomb": ("dos.processes", "test_a_fork_bomb_is_bounded_and_ends_with_its_command"),
    "memory": (
        *("test_too_much_memory_is_its_own_end_and_told_in_words",),
        "test_the_memory_of_all_processes_counts_together",
    ),
    "disk": (
        *("test_too_much_disk_is_its_own_end_wherever_it_is_written", "dos.tmp"),
        *("dos.shared_memory", "test_what_is_written_where_it_hardly_shows_counts"),
    ),
    "descriptors": ("dos.descriptors",),
    "processors": (
        *("test_a_command_gets_no_more_processors_than_it_may_have",),
        "test_a_command_lets_others_go_first",
    ),
    "output without end": (
        "test_a_gigabyte_of_output_ends_the_command_and_only_the_limit_is_kept",
    ),
    "long lines and invalid bytes": ("test_every_line_is_told_once_and_whole",),
    "control characters": ("test_a_terminal_never_obeys_what_others_wrote",),
    "sleep for ever": (
        *("test_out_of_time_is_its_own_end",),
        "test_silence_is_its_own_end_and_talking_prevents_it",
    ),
    "ignore TERM": ("test_what_ignores_term_is_killed",),
    # Life and death
    "daemons": (
        *("test_a_daemon_neither_survives_nor_holds_up_its_command",),
        "test_daemons_of_an_agent_end_with_it",
    ),
    "kill -9 of the service": ("test_a_new_service_attaches_to_what_a_killed_one_started",),
    "kill -9 of the supervisor": (
        *("test_a_killed_shim_takes_its_sandbox_with_it_and_the_run_is_lost",),
        "test_a_shim_that_is_killed_in_the_middle_of_its_start_leaves_nothing",
    ),
    "the end of the thread that started it": (
        "test_a_command_outlives_the_thread_that_started_it",
    ),
    "what is left": (
        *("test_a_sweep_removes_what_is_not_alive", "test_a_run_leaves_no_zombie"),
        "test_a_group_that_a_killed_shim_left_is_empty_and_the_next_sweep_removes_it",
    ),
    "the end by the kernel is told as such": (
        "test_a_command_that_goes_on_after_the_kernel_killed_a_part_is_ended_too",
    ),
    # Git, and files that others trust
    "all 32 on shared state": tuple(f"S{number:02}" for number in range(1, 33)),
    "all 29 that run programs": tuple(f"E{number:02}" for number in range(1, 30)),
    ".git renamed or replaced": ("E22", "E23", "S23", "S24"),
    "submodules and nested repositories": ("E19", "E20", "E21", "E27", "E28", "E29", "E31"),
    "a tree that holds .git, and names like it": ("R05", "R06"),
    "names of refs": ("E30", "test_a_text_that_is_no_branch_name_is_refused"),
    "tampered and foreign objects": ("S17", "S20", "S21", "R07"),
    "a huge history": ("R08",),
    "force-push": ("R09", "S27"),
    "in somebody else's name": ("R01",),
    "case and Unicode": ("R05", "test_what_cannot_be_taken_is_left_out_and_named"),
    "files that programs trust": (
        *("T01", "T02", "T03", "T04", "T05"),
        "test_who_only_reads_runs_no_hook_and_no_server_that_the_author_planted",
    ),
    "words that pretend to be ours": (
        *("test_a_diff_cannot_end_its_block_and_speak_to_the_reviewer",),
        "test_no_text_ends_its_span_or_block",
    ),
    "all of it in one run": ("test_agents_that_attack_everything_harm_nobody_and_land_their_work",),
}


@pytest.fixture(scope="module")
def known() -> frozenset[str]:
    """The names of all attacks and tests."""
    shipped = (*dir(WorkspacesContract), *dir(suite.AttackSuite))
    sources = Path(__file__).parents[1].rglob("test_*.py")
    ours = [name for path in sources for name in re.findall(r"def (test_\w+)", path.read_text())]
    return frozenset((*ATTACKS, *(each.id for each in PLANTED), *shipped, *ours))


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_is_tested(item: str, known: frozenset[str]) -> None:
    assert set(ITEMS[item]) <= known


def test_every_attack_of_the_suite_is_an_item() -> None:
    named = {name for names in ITEMS.values() for name in names}

    assert named >= {*ATTACKS, *(each.id for each in PLANTED)}
