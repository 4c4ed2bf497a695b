# mira-queue as one image: `docker run mira-queue` is a worker, `docker run mira-queue enqueue --help` any other command.
# It needs no feature of BuildKit, so any Docker Engine since 17.05 builds it. Why it is as it is: docs/decisions/0005-containers.md

# Any image with Python 3.11 or newer, its venv module, CA certificates and useradd (Debian's and Ubuntu's have it).
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
# Extras of pyproject.toml, comma-separated: `gateway` is mira-queue serve, `report` draws the pages of batches,
# and `dashboard` adds Flower.
ARG EXTRAS="gateway,otel,report"
WORKDIR /src
RUN python3 -m venv /opt/mira-queue
# The dependencies alone, from a package that has no code yet: a change of code does not download them again.
COPY pyproject.toml README.md LICENSE ./
RUN /opt/mira-queue/bin/pip install --no-cache-dir --disable-pip-version-check ".${EXTRAS:+[$EXTRAS]}"
COPY mira_queue ./mira_queue
COPY producer ./producer
COPY worker ./worker
RUN /opt/mira-queue/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall .

FROM ${PYTHON_IMAGE}
# A fixed number, so that volumes and `runAsNonRoot` know it; no home, so that nothing is kept where it would be lost.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mira
# The state of a gateway: mount a volume here, which gets this owner.
RUN install --directory --owner=10001 --group=10001 --mode=700 /state
COPY --from=build /opt/mira-queue /opt/mira-queue
# Unbuffered, or the last log lines of a killed worker stay in its buffer. No .pyc: the root file system is read-only.
ENV PATH=/opt/mira-queue/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MIRA_HEALTH_FILE=/tmp/mira-queue.health \
    MIRA_STATE_DIR=/state
USER 10001:10001
WORKDIR /work
# The worker touches the file while it reaches the server. Reading its age costs a few milliseconds;
# `celery inspect ping` costs a second of CPU a time, and every worker answers every other's.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=2 \
    CMD find "$MIRA_HEALTH_FILE" -mmin -1 2>/dev/null | grep -q .
# Exec form: SIGTERM reaches the worker, not a shell that keeps it to itself.
ENTRYPOINT ["mira-queue"]
CMD ["worker"]
