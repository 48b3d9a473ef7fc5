# rowscore in a container: `rowscore`, and `celery -A worker worker`, `beat` and `flower`, at the versions of
# constraints.txt. How to use it is in docker-compose.yml. Models that need more than is always here:
#     docker build --build-arg EXTRAS=aws,onnx,openai,parquet -t rowscore .

FROM python:3.11-slim-bookworm AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN python -m venv /opt/rowscore
WORKDIR /build
ARG EXTRAS=
# The dependencies first, in a layer that lasts until they change; all are wheels, so there is no compiler here either.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import os, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        extras = [item for name in filter(None, os.environ["EXTRAS"].split(",")) \
                  for item in project["optional-dependencies"][name]]; \
        print(*project["dependencies"], *extras, sep="\n")' >requirements.txt \
    && /opt/rowscore/bin/pip install --only-binary :all: -c constraints.txt -r requirements.txt
COPY . .
RUN /opt/rowscore/bin/pip install -c constraints.txt .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="rowscore" \
      org.opencontainers.image.description="Keeps machine-learning predictions materialised in the rows they describe" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number that is fixed, so that a mounted file can be made readable for it, and `runAsNonRoot` can be checked.
RUN groupadd --gid 10001 rowscore \
    && useradd --uid 10001 --gid rowscore --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin rowscore
COPY --from=builder /opt/rowscore /opt/rowscore
ENV PATH=/opt/rowscore/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ROWSCORE_CONFIG=/etc/rowscore/rowscore.toml
WORKDIR /etc/rowscore
USER 10001:10001
CMD ["rowscore", "--help"]
