"""From what was counted to the scorecard: which numbers there are, and how high each may be."""

from __future__ import annotations

from collections.abc import Mapping

from tests.chaos import workload
from tests.chaos.blows import Striker
from tests.chaos.cast import Cast
from tests.chaos.options import ChaosOptions
from tests.chaos.schedule import Blow
from tests.chaos.scorecard import Measure, Score
from tests.chaos.system import System
from tests.chaos.tally import Lines, Remarks, add_calls, add_lines, add_outcomes
from tests.chaos.witness import Witness
from tests.support.simulator_process import SimulatorProcess


def report(
    options: ChaosOptions,
    system: System,
    accepted: Mapping[int, set[str]],
    witness: Witness,
    simulator: SimulatorProcess,
    cast: Cast,
    striker: Striker,
    *,
    settled: bool,
    seconds: float,
) -> Score:
    """Reads every outcome, every output line and the simulator's counts. The server must be up."""
    remarks = Remarks()
    seen_calls = simulator.requests()["by_content"]
    stats = simulator.stats()
    outcomes = add_outcomes(options, system, accepted, witness, seen_calls, remarks)
    lines = Lines()
    for number, numbers in enumerate(workload.batch_numbers(options)):
        one = add_lines(numbers, cast.batch_outputs(number), remarks)
        lines.wanted += one.wanted
        lines.missing += one.missing
        lines.doubled += one.doubled
        lines.strange += one.strange
    calls = add_calls(options, seen_calls, striker.hit, remarks)
    for text in cast.own_deaths:
        remarks.add("died by itself", text)
    for text in cast.slow_exits:
        remarks.add("outlived its grace", text)
    blows, in_flight = striker.counts, striker.in_flight
    measures = (
        Measure("single jobs to accept", options.single_jobs),
        Measure("single jobs accepted", outcomes.accepted),
        Measure("  not accepted in the end", options.single_jobs - outcomes.accepted, 0),
        Measure("  accepted twice under one key", outcomes.accepted_twice, 0),
        Measure("accepted jobs lost", outcomes.lost, 0),
        Measure("outcomes stored twice", outcomes.doubled, 0),
        Measure("outcomes that are wrong", outcomes.wrong, 0),
        Measure("batch lines", lines.wanted),
        Measure("  output lines missing", lines.missing, 0),
        Measure("  output lines doubled", lines.doubled, 0),
        Measure("  output lines strange", lines.strange, 0),
        Measure("calls seen by the API", calls.made),
        Measure("  in flight at SIGKILLs of workers", in_flight[Blow.KILL_WORKER]),
        Measure("  in flight at SIGSTOPs of workers", in_flight[Blow.STOP_WORKER]),
        Measure("  in flight at SIGKILLs of the server", in_flight[Blow.KILL_SERVER]),
        Measure("  in flight when the API reset its connections", in_flight[Blow.OUTAGE]),
        Measure("  repeated calls", calls.repeated, sum(in_flight.values())),
        Measure("  repeated without having been under way at a blow", calls.unexplained, 0),
        Measure("  broken off by their client", stats["client_gone"]),
        Measure("  requests answered again (surely billed twice)", calls.answered_again),
        Measure("  lost answers that outcomes own to", outcomes.own_unanswered),
        Measure("  jobs that hide a repeated answer", outcomes.unconfessed, 0),
        Measure("  calls before a Retry-After had passed", stats["early"]),
        Measure("kills", sum(count for blow, count in blows.items() if blow.is_kill)),
        *(Measure(f"  {blow}", blows[blow]) for blow in Blow if blow.is_kill),
        Measure("  SIGKILLs of workers in the middle of calls", striker.mid_call_kills),
        Measure("API outages and limits", blows[Blow.OUTAGE] + blows[Blow.LIMIT]),
        Measure("processes that died by themselves", len(cast.own_deaths), 0),
        Measure("processes that outlived SIGTERM's grace", len(cast.slow_exits), 0),
        Measure("gave up before all was settled", int(not settled), 0),
        Measure("seconds", round(seconds)),
    )
    return Score(system.name, measures, tuple(remarks.lines))
