# A worker image: the wheel and what it needs to run. Training, tests and benchmarks stay outside.

# The full image, not the slim one: where a dependency has no wheel for the platform, it is compiled here.
FROM python:3.12-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY streams ./streams
COPY models ./models
COPY connectors ./connectors
RUN pip wheel --no-deps --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/headrace \
    && pip --python /opt/headrace/bin/python install /wheels/*.whl

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home headrace \
    && install --directory --owner headrace --group headrace /var/cache/headrace
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/cache/headrace \
    HEADRACE_WORKER__HTTP_HOST=0.0.0.0 \
    HEADRACE_WORKER__HTTP_PORT=8080
WORKDIR /var/cache/headrace
USER 10001
# Compiles numba's kernels into the image by what every worker does before its first record, so that a start need not. On
# another kind of CPU numba does it anew, which is why its folder belongs to the user.
RUN ["python", "-c", "from streams import encoding, settings; from streams.pipelines import PIPELINES; encoding.warm_up(); [each.build(settings.Settings()).warm_up() for each in PIPELINES.values()]"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['HEADRACE_WORKER__HTTP_PORT'] + '/health/live', timeout=4)"]
ENTRYPOINT ["headrace"]
CMD ["worker", "fraud"]
