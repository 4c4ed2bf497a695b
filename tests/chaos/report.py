"""Build the scorecard from the counts: its measures, and the maximum of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.chaos import workload
from tests.chaos.accounting import Lines, Remarks, add_calls, add_lines, add_outcomes
from tests.chaos.faults import FaultInjector
from tests.chaos.options import ChaosOptions
from tests.chaos.pauses import Pauses
from tests.chaos.processes import Processes
from tests.chaos.result_monitor import ResultMonitor
from tests.chaos.schedule import Fault
from tests.chaos.scorecard import Measure, Score
from tests.chaos.sent import sent_elsewhere, sent_while_paused
from tests.chaos.simulators import Simulators
from tests.chaos.system import System


def report(
    options: ChaosOptions,
    system: System,
    accepted: Mapping[int, set[str]],
    monitor: ResultMonitor,
    simulators: Simulators,
    processes: Processes,
    injector: FaultInjector,
    pauses: Pauses | None,
    senders: Sequence[str],
    *,
    settled: bool,
    seconds: float,
) -> Score:
    """Read every outcome, every output line, and the simulators' counts. The server must be running."""
    remarks = Remarks()
    seen_calls, arrivals, stats = simulators.counts(), simulators.arrivals(), simulators.stats()
    hits = injector.hit
    outcomes = add_outcomes(options, system, accepted, monitor, seen_calls, hits, remarks)
    lines = Lines()
    for number, numbers in enumerate(workload.batch_numbers(options)):
        add_lines(options, system, numbers, processes.batch_outputs(number), seen_calls, hits, lines, remarks)
    calls = add_calls(options, seen_calls, hits, remarks, lambda content: simulators.times(arrivals, content))
    elsewhere = sent_elsewhere(options, arrivals, senders, remarks)
    paused = pauses.done if pauses else []
    after_pause = sent_while_paused(options, paused, arrivals, simulators.clock_offsets_s, remarks)
    for text in processes.unexpected_exits:
        remarks.add("unexpected exit", text)
    for text in processes.late_exits:
        remarks.add("late exit", text)
    faults, in_flight = injector.counts, injector.in_flight
    measures = (
        Measure("jobs", options.jobs),
        Measure("faults", faults.total()),
        *(Measure(f"  {fault}", faults[fault]) for fault in Fault),
        Measure("lost", outcomes.lost + lines.missing, 0),
        Measure("duplicated", outcomes.duplicated + lines.duplicated, 0),
        Measure("wrong", outcomes.wrong + lines.wrong, 0),
        Measure("sent to another account", elsewhere, 0),
        Measure("sent after a pause", after_pause, 0),
        Measure("repeated calls (limit: calls in flight at faults)", calls.repeated, sum(in_flight.values())),
        Measure("  of requests that no fault explains", calls.unexplained, 0),
        *(Measure(f"  only in flight at: {fault}", calls.only_at[fault]) for fault in Fault if in_flight[fault]),
        Measure("single jobs to accept", options.single_jobs),
        Measure("single jobs accepted", outcomes.accepted),
        Measure("  not accepted", options.single_jobs - outcomes.accepted, 0),
        Measure("  accepted twice under one key", outcomes.accepted_twice, 0),
        Measure("  accepted and lost", outcomes.lost, 0),
        Measure("  outcomes stored twice", outcomes.duplicated, 0),
        Measure("  wrong outcomes", outcomes.wrong, 0),
        Measure("batch lines", lines.expected),
        Measure("  output lines missing", lines.missing, 0),
        Measure("  output lines duplicated", lines.duplicated, 0),
        Measure("  output lines unexpected", lines.unexpected, 0),
        Measure("  wrong output lines", lines.wrong, 0),
        Measure("dead letters after three crashes of their workers", outcomes.dead_letters + lines.dead_letters),
        Measure("calls received by the API", calls.made),
        *(Measure(f"  in flight at: {fault}", in_flight[fault]) for fault in Fault if in_flight[fault]),
        Measure("  with interim responses", stats["interim"]),
        Measure("  interrupted by the client", stats["client_gone"]),
        Measure("  requests answered twice (certainly billed twice)", calls.answered_again),
        Measure("  calls that outcomes declare as possibly billed", outcomes.declared_unanswered),
        Measure("  jobs that do not declare a duplicate answer", outcomes.undeclared, 0),
        Measure("  calls before a Retry-After had passed", stats["early"]),
        Measure("SIGKILLs of workers during calls", injector.mid_call_kills),
        Measure("acknowledged pauses", len(paused)),
        Measure("processes that exited unexpectedly", len(processes.unexpected_exits), 0),
        Measure("processes that exceeded the grace period", len(processes.late_exits), 0),
        Measure("time limit reached", int(not settled), 0),
        Measure("seconds", round(seconds)),
    )
    return Score(system.name, measures, tuple(remarks.lines))
