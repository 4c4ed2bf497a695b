"""Build the scorecard from the counts: its measures, and the maximum of each."""

from __future__ import annotations

from collections.abc import Mapping

from tests.chaos import workload
from tests.chaos.accounting import Lines, Remarks, add_calls, add_lines, add_outcomes
from tests.chaos.faults import FaultInjector
from tests.chaos.options import ChaosOptions
from tests.chaos.processes import Processes
from tests.chaos.result_monitor import ResultMonitor
from tests.chaos.schedule import Fault
from tests.chaos.scorecard import Measure, Score
from tests.chaos.system import System
from tests.support.simulator_process import SimulatorProcess


def report(
    options: ChaosOptions,
    system: System,
    accepted: Mapping[int, set[str]],
    monitor: ResultMonitor,
    simulator: SimulatorProcess,
    processes: Processes,
    injector: FaultInjector,
    *,
    settled: bool,
    seconds: float,
) -> Score:
    """Read every outcome, every output line, and the simulator's counts. The server must be running."""
    remarks = Remarks()
    seen_calls = simulator.requests()["by_content"]
    stats = simulator.stats()
    outcomes = add_outcomes(options, system, accepted, monitor, seen_calls, remarks)
    lines = Lines()
    for number, numbers in enumerate(workload.batch_numbers(options)):
        one = add_lines(numbers, processes.batch_outputs(number), remarks)
        lines.expected += one.expected
        lines.missing += one.missing
        lines.duplicated += one.duplicated
        lines.unexpected += one.unexpected
    calls = add_calls(options, seen_calls, injector.hit, remarks)
    for text in processes.unexpected_exits:
        remarks.add("unexpected exit", text)
    for text in processes.late_exits:
        remarks.add("late exit", text)
    faults, in_flight = injector.counts, injector.in_flight
    measures = (
        Measure("single jobs to accept", options.single_jobs),
        Measure("single jobs accepted", outcomes.accepted),
        Measure("  not accepted", options.single_jobs - outcomes.accepted, 0),
        Measure("  accepted twice under one key", outcomes.accepted_twice, 0),
        Measure("accepted jobs lost", outcomes.lost, 0),
        Measure("outcomes stored twice", outcomes.duplicated, 0),
        Measure("wrong outcomes", outcomes.wrong, 0),
        Measure("batch lines", lines.expected),
        Measure("  output lines missing", lines.missing, 0),
        Measure("  output lines duplicated", lines.duplicated, 0),
        Measure("  output lines unexpected", lines.unexpected, 0),
        Measure("calls received by the API", calls.made),
        Measure("  in flight at SIGKILLs of workers", in_flight[Fault.KILL_WORKER]),
        Measure("  in flight at SIGSTOPs of workers", in_flight[Fault.STOP_WORKER]),
        Measure("  in flight at SIGKILLs of the server", in_flight[Fault.KILL_SERVER]),
        Measure("  in flight when the API reset its connections", in_flight[Fault.OUTAGE]),
        Measure("  repeated calls", calls.repeated, sum(in_flight.values())),
        Measure("  repeated without a fault while in flight", calls.unexplained, 0),
        Measure("  interrupted by the client", stats["client_gone"]),
        Measure("  requests answered twice (certainly billed twice)", calls.answered_again),
        Measure("  calls that outcomes declare as possibly billed", outcomes.declared_unanswered),
        Measure("  jobs that do not declare a duplicate answer", outcomes.undeclared, 0),
        Measure("  calls before a Retry-After had passed", stats["early"]),
        Measure("kills", sum(count for fault, count in faults.items() if fault.is_kill)),
        *(Measure(f"  {fault}", faults[fault]) for fault in Fault if fault.is_kill),
        Measure("  SIGKILLs of workers during calls", injector.mid_call_kills),
        Measure("API outages and limits", faults[Fault.OUTAGE] + faults[Fault.LIMIT]),
        Measure("processes that exited unexpectedly", len(processes.unexpected_exits), 0),
        Measure("processes that exceeded the grace period", len(processes.late_exits), 0),
        Measure("time limit reached", int(not settled), 0),
        Measure("seconds", round(seconds)),
    )
    return Score(system.name, measures, tuple(remarks.lines))
