"""Build the scorecard of a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import openai

from tests.chaos.accounting import Lines, Remarks, add_calls, add_lines
from tests.chaos.gateway import accounting
from tests.chaos.gateway.clients import Clients, Kind
from tests.chaos.gateway.faults import GatewayFaults
from tests.chaos.gateway.objects import Objects, outcome_of, save_files
from tests.chaos.gateway.options import GatewayOptions
from tests.chaos.gateway.schedule import GatewayFault
from tests.chaos.gateway.service import Service
from tests.chaos.gateway.webhook_log import WebhookLog
from tests.chaos.result_monitor import ResultMonitor
from tests.chaos.scorecard import Measure, Score
from tests.chaos.system import MiraQueueSystem
from tests.support.cutting_proxy import CuttingProxy
from tests.support.simulator_process import SimulatorProcess


def report(
    options: GatewayOptions,
    admin: openai.OpenAI,
    clients: Clients,
    objects: Objects,
    log: WebhookLog,
    faults: GatewayFaults,
    service: Service,
    proxy: CuttingProxy,
    monitor: ResultMonitor,
    simulator: SimulatorProcess,
    folder: Path,
    *,
    seconds: float,
    left_faults: int,
    left_deliveries: int,
) -> Score:
    """Read every outcome, every file of a batch, and the simulator's counts."""
    remarks = Remarks()
    groups = _creates(clients, objects, remarks)
    seen = {name: Counter(counts) for name, counts in simulator.requests()["by_content"].items()}
    jobs = accounting.add_job_outcomes(
        options, objects, lambda job_id: outcome_of(admin, job_id), seen, faults.hit, remarks
    )
    lines = Lines()
    for batch in objects.batches:
        number = int((batch.metadata or {})["n"])
        paths = save_files(admin, batch, folder)
        numbers = options.numbers_of_batch(number)
        add_lines(options.workload, MiraQueueSystem(), numbers, paths, seen, faults.hit, lines, remarks)
    counts = accounting.wrong_counts(options, objects.batches, remarks)
    calls = add_calls(options.workload, seen, faults.hit, remarks)
    webhooks = accounting.add_webhooks(accounting.expected_webhooks(objects), log.arrivals, remarks)
    for text in service.unexpected_exits:
        remarks.add("unexpected exit of the gateway", text)
    for job_id in monitor.duplicated:
        remarks.add("stored twice", job_id)
    kinds = Counter(create.kind for create in clients.done)
    for create in clients.done:
        if not create.id:
            remarks.add("failed for the client", f"{create}")
    single = sum(kinds[kind] for kind in Kind if kind not in (Kind.FILE, Kind.BATCH))
    return Score(
        "mira-queue",
        (
            Measure("faults", faults.counts.total()),
            *(Measure(f"  {fault}", faults.counts[fault]) for fault in GatewayFault),
            Measure("  connections cut between clients and gateway", proxy.cuts),
            Measure("single creates", single),
            *(Measure(f"  {kind}", kinds[kind]) for kind in Kind if kind not in (Kind.FILE, Kind.BATCH)),
            Measure("single creates that were not made", options.creates - single, 0),
            Measure("batches that were not made", options.batches - len(objects.batches), 0),
            *(
                measure
                for what, found in groups.items()
                for measure in (
                    Measure(f"creates of a {what} that returned", found.returned),
                    Measure("  that failed for the client", found.failed),
                    Measure("    although the object exists", found.unseen),
                    Measure("  lost", found.lost, 0),
                    Measure("  with several objects", found.duplicated, 0),
                    Measure("  with another object than the client got", found.other, 0),
                    Measure("  objects that no create asked for", found.unknown, 0),
                )
            ),
            Measure("jobs that have finished", sum(jobs.states.values()) - jobs.unfinished),
            *(Measure(f"  {state}", count) for state, count in sorted(jobs.states.items())),
            Measure("jobs that have not finished", jobs.unfinished, 0),
            Measure("wrong outcomes", jobs.wrong, 0),
            Measure("outcomes stored twice", len(monitor.duplicated), 0),
            Measure("batch lines", lines.expected),
            Measure("  missing", lines.missing, 0),
            Measure("  duplicated", lines.duplicated, 0),
            Measure("  unexpected", lines.unexpected, 0),
            Measure("  wrong", lines.wrong, 0),
            Measure("batches with a wrong status or wrong counts", counts, 0),
            Measure("calls received by the API", calls.made),
            Measure("  in flight at a crash", faults.in_flight),
            Measure("  repeated calls", calls.repeated),
            Measure("  repeated calls that no fault explains", calls.unexplained, 0),
            Measure("  jobs that do not declare a duplicate answer", jobs.hidden, 0),
            Measure("objects with a webhook", webhooks.expected),
            Measure("  whose webhook has not arrived", webhooks.missing, 0),
            Measure("  with several events", webhooks.several_events, 0),
            Measure("webhooks of events that did not happen", webhooks.false, 0),
            Measure("webhooks with a wrong signature", log.bad_signatures, 0),
            Measure("webhooks that arrived again", webhooks.repeated),
            Measure("webhooks that the receiver rejected", log.rejected),
            Measure("deliveries and events that are left", left_deliveries, 0),
            Measure("gateways that exited unexpectedly", len(service.unexpected_exits), 0),
            Measure("gateways that exceeded the grace period", service.late_exits, 0),
            Measure("planned faults that were not reached", left_faults),
            Measure("seconds", round(seconds)),
        ),
        tuple(remarks.lines),
    )


def _creates(clients: Clients, objects: Objects, remarks: Remarks) -> dict[str, accounting.Found]:
    done = list(clients.done)
    files = [create for create in done if create.kind is Kind.FILE]
    batches = [create for create in done if create.kind is Kind.BATCH]
    single = [create for create in done if create.kind not in (Kind.FILE, Kind.BATCH)]
    groups = (
        ("job", single, accounting.jobs_by_number(objects)),
        ("file", files, accounting.files_by_number(objects, files)),
        ("batch", batches, accounting.batches_by_number(objects)),
    )
    return {what: accounting.add_creates(some, found, what, remarks) for what, some, found in groups}
