"""A Flask app that answers chat questions in the background.

mira-queue worker &
flask --app examples.flask_app run
curl -X POST localhost:5000/questions -H 'Content-Type: application/json' -d '{"text": "Why is the sky blue?"}'
curl localhost:5000/questions/ID
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Flask, jsonify, request

from mira_queue import Completion, IdempotencyConflict, InvalidRequest, JobNotFound, MiraQueue, QueueUnavailable


def create_app(queue: MiraQueue | None = None) -> Flask:
    """Return the app. The threads of the process share one queue."""
    app = Flask(__name__)
    jobs = queue or MiraQueue()

    @app.post("/questions")
    def ask() -> Any:
        body = request.get_json(silent=True)
        text = body.get("text") if isinstance(body, dict) else None
        # A client that repeats its request after a timeout gets the same job. It is not billed twice.
        key = request.headers.get("Idempotency-Key")
        job = jobs.enqueue([{"role": "user", "content": text}], key=key)
        return jsonify(id=job.id, status=f"/questions/{job.id}"), 202

    @app.get("/questions/<job_id>")
    def answer(job_id: str) -> Any:
        status = jobs.job(job_id).status()
        if not status.state.is_final:
            return jsonify(state=status.state, reason=status.reason), 202
        outcome = jobs.job(job_id).outcome(timeout=0)
        if isinstance(outcome, Completion):
            return jsonify(state=status.state, text=outcome.text, usage=outcome.usage)
        return jsonify(state=status.state, error=asdict(outcome)), 502

    @app.delete("/questions/<job_id>")
    def cancel(job_id: str) -> Any:
        return jsonify(cancelled=jobs.job(job_id).cancel())

    @app.errorhandler(InvalidRequest)
    def invalid(error: InvalidRequest) -> Any:
        return jsonify(field=error.field, reason=error.reason), 400

    @app.errorhandler(IdempotencyConflict)
    def conflict(error: IdempotencyConflict) -> Any:
        return jsonify(reason=str(error)), 409

    @app.errorhandler(JobNotFound)
    def missing(error: JobNotFound) -> Any:
        return jsonify(reason=str(error)), 404

    @app.errorhandler(QueueUnavailable)
    def unavailable(error: QueueUnavailable) -> Any:
        return jsonify(reason="the queue is unavailable: retry later"), 503

    return app
